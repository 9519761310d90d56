"""The teacher's logits on a training set: computed once, cached on disk, shared by all students of that teacher."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from harness.compression.encoded_rows import EncodedSplit
from harness.compression.evaluation import predict_logits
from harness.compression.tensor_files import save_tensors
from harness.models.model import Model


class TeacherLogits:
    """A cache in a folder. The key is the hash of the teacher's artifact and of the tokens that it reads."""

    def __init__(self, folder: Path, teacher_hash: str) -> None:
        self.folder, self.teacher_hash = folder, teacher_hash

    def path(self, content: bytes, suffix: str) -> Path:
        """Return the path of a cached file that depends on this teacher and on `content`."""
        digest = hashlib.sha256(self.teacher_hash.encode() + content)
        return self.folder / f"{digest.hexdigest()[:32]}{suffix}"

    def of(self, teacher: Model, rows: EncodedSplit, device: str = "cpu") -> Tensor:
        """Return the logits of all rows in order: (N, outputs), or for spans (N, longest row, 2), zero at padding."""
        tokens = b"".join(tensor.numpy().tobytes() for tensor in (rows.lengths, rows.ids, rows.segments))
        path = self.path(tokens, ".safetensors")
        try:
            return load_file(path)["logits"]
        except (FileNotFoundError, SafetensorError, KeyError):
            pass
        logits = torch.nn.utils.rnn.pad_sequence(predict_logits(teacher, rows, device), batch_first=True)
        save_tensors(path, {"logits": logits})
        return logits
