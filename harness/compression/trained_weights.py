"""Weights as a training left them, kept for recipes that differ only in what is decided after training, such as the
threshold of an early exit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from harness.compression.tensor_files import save_tensors
from harness.models.model import Model
from harness.records.schema import Training


@dataclass(frozen=True)
class TrainedWeights:
    """A file that holds a trained student's weights and the record of its training."""

    path: Path

    def load(self, student: Model) -> Training | None:
        """Copy the file's weights into `student` and return the record of their training. Return None, and change
        nothing, if the file is missing or unreadable or if its names and shapes are not the student's.
        """
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
        """Write the student's weights and the record atomically."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in student.contents().items()}
        save_tensors(self.path, tensors, {"training": training.model_dump_json()})
