"""torch.compile: the encoder's operators fused and generated for this machine by TorchInductor."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from harness.common.errors import SkylineError
from harness.common.hardware import check_device
from harness.models.artifacts import load_artifact
from harness.models.batch import Batch
from harness.models.model import Model
from harness.records.schema import Precision
from harness.runtimes.base import Executable, Runtime
from harness.runtimes.precision import in_precision

MOST_SHAPES = 256
"""Of which one loaded artifact is compiled anew: more than a profile has passes. Beyond torch's own limit, 8, a model
whose work depends on the length would run uncompiled, and nobody would be told.
"""


class CompiledRuntime(Runtime):
    """Compiles the whole pass on the first batch of a shape; from the second length on for any length. Where rows leave
    early, which no graph can say, it compiles layer by layer.

    On the processor the weights are part of what is compiled ("freezing"), so they are laid out once for its kernels.
    """

    name = "compile"
    exits_early = True
    compiles = True

    def require(self, device: str) -> None:
        """See `Runtime.require`: it also needs a compiler."""
        super().require(device)
        if device != "cpu":
            if find_spec("triton") is None:
                raise SkylineError("runtime 'compile' needs triton on cuda; pip install triton")
            return
        compiler, *_ = shlex.split(
            os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
        )
        if shutil.which(compiler) is None:
            raise SkylineError(
                f"runtime 'compile' needs a C++ compiler and there is no '{compiler}'; install it, or name one in CXX"
            )

    def load(
        self, folder: Path, device: str, precision: Precision = "float32", prepared: Path | None = None
    ) -> Executable:
        """See `Runtime.load`."""
        check_device(device)
        self.require(device)
        model = in_precision(load_artifact(folder), precision).to(device).eval()
        if getattr(model.config, "exit_rule", None) is None:
            compiled = _compiled(_Pass(model), device)
        else:
            layers = cast(nn.ModuleList, model.get_submodule("layers"))
            for index, shape in enumerate(model.config.layers):
                # Where word-vectors go, the encoder runs the layer in two parts itself.
                if shape.kept is None:
                    layers[index] = _compiled(layers[index], device)
            compiled = _Pass(model)

        @torch.inference_mode()
        def run(batch: Batch) -> Tensor:
            with torch._dynamo.config.patch(recompile_limit=MOST_SHAPES):
                logits: Tensor = compiled(batch.input_ids, batch.attention_mask, batch.token_type_ids)
            return logits

        return Executable(run)


def _compiled(module: nn.Module, device: str) -> nn.Module:
    return cast(nn.Module, torch.compile(module, options={"freezing": device == "cpu"}))


class _Pass(nn.Module):
    """A pass from tensors to a tensor."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        logits: Tensor = self.model(Batch(ids, mask, segments)).logits
        return logits
