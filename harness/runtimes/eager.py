"""Plain PyTorch: Python calls each operator, as the model's code says."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from harness.common.hardware import check_device
from harness.models.artifacts import load_artifact
from harness.models.batch import Batch, Output
from harness.records.schema import Precision
from harness.runtimes.base import Executable, Runtime
from harness.runtimes.precision import in_precision


class EagerRuntime(Runtime):
    """Runs the loaded encoder in inference mode."""

    name = "eager"
    exits_early = True

    def load(
        self, folder: Path, device: str, precision: Precision = "float32", prepared: Path | None = None
    ) -> Executable:
        """See `Runtime.load`."""
        check_device(device)
        model = in_precision(load_artifact(folder), precision).to(device).eval()

        @torch.inference_mode()
        def run(batch: Batch) -> Tensor:
            output: Output = model(batch)
            return output.logits

        return Executable(run, model)
