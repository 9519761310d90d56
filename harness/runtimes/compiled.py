"""torch.compile: TorchInductor fuses the encoder's operators and generates code for this machine."""

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

from harness.common.errors import Code, SkylineError
from harness.common.hardware import check_device
from harness.models.artifacts import load_artifact
from harness.models.batch import Batch
from harness.models.model import Model
from harness.records.schema import Precision
from harness.runtimes.base import Executable, Runtime
from harness.runtimes.precision import in_precision

MOST_SHAPES = 256
"""The most shapes for which a loaded artifact is compiled; no profile has as many. Beyond torch's limit of 8, a model
whose work depends on the length would run uncompiled without a warning.
"""


class CompiledRuntime(Runtime):
    """Compiles the whole pass: for one length at first, and for any length when a second one comes.

    If rows exit early, it compiles each layer for itself, because a graph cannot express that. On the processor the
    weights are constants of the compiled code ("freezing"), so they are laid out once for its kernels.
    """

    name = "compile"
    exits_early = True
    compiles = True

    def require(self, device: str) -> None:
        """See `Runtime.require`. It also needs a compiler: triton on CUDA, a C++ compiler on the processor."""
        super().require(device)
        if device != "cpu":
            if find_spec("triton") is None:
                raise SkylineError(
                    "runtime 'compile' needs triton on cuda; pip install triton", Code.NOT_INSTALLED
                )
            return
        compiler, *_ = shlex.split(
            os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
        )
        if shutil.which(compiler) is None:
            raise SkylineError(
                f"runtime 'compile' needs a C++ compiler, and '{compiler}' was not found; "
                "install it, or name another in CXX",
                Code.NOT_INSTALLED,
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
                # The encoder runs a layer that drops word-vectors in two parts, without calling it.
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
    """A pass as a function of tensors, which torch can compile."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor, segments: Tensor) -> Tensor:
        logits: Tensor = self.model(Batch(ids, mask, segments)).logits  # (b, outputs) or (b, n, 2)
        return logits
