"""Weights as a training left them, for recipes that differ only in what is decided after it: the points of a curve."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from harness.models.model import Model
from harness.records.schema import Training


@dataclass(frozen=True)
class TrainedWeights:
    """A file of a trained student's weights with the record of the training, kept for the next recipe like it."""

    path: Path

    def load(self, student: Model) -> Training | None:
        """Put the weights kept into `student` and return how they were trained; None where nothing fitting is kept."""
        contents = student.contents()
        try:
            with safe_open(self.path, framework="pt") as file:
                training = Training.model_validate_json((file.metadata() or {}).get("training", ""))
                stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except (OSError, SafetensorError, ValidationError):
            return None
        if {name: tensor.shape for name, tensor in stored.items()} != {
            name: tensor.shape for name, tensor in contents.items()
        }:
            return None
        with torch.no_grad():
            for name, tensor in contents.items():
                tensor.copy_(stored[name])
        return training

    def keep(self, student: Model, training: Training) -> None:
        """Write the weights and the record, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The store sweeps away names with a dot: what a killed run left half-written.
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        try:
            tensors = {
                name: tensor.detach().cpu().contiguous() for name, tensor in student.contents().items()
            }
            save_file(tensors, temporary, metadata={"training": training.model_dump_json()})
            temporary.chmod(0o644)
            temporary.replace(self.path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
