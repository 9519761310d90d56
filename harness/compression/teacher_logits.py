"""The teacher's logits on a training set: computed once, kept on disk, shared by every student of that
teacher.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.compression.encoded_rows import EncodedSplit
from harness.compression.evaluation import predict_logits
from harness.models.model import Model


class TeacherLogits:
    """A cache in a folder. The key is the teacher artifact's hash and the very tokens that it read."""

    def __init__(self, folder: Path, teacher_hash: str) -> None:
        self.folder, self.teacher_hash = folder, teacher_hash

    def beside(self, made_of: bytes, suffix: str) -> Path:
        """Where to keep what else is made with this teacher; `made_of` says of what."""
        digest = hashlib.sha256(self.teacher_hash.encode() + made_of)
        return self.folder / f"{digest.hexdigest()[:32]}{suffix}"

    def of(self, teacher: Model, rows: EncodedSplit, device: str = "cpu") -> Tensor:
        """Logits of every row in order: (N, outputs), or (N, longest row, 2) for spans, zero where a row has
        no token.
        """
        digest = hashlib.sha256(self.teacher_hash.encode())
        for tensor in (rows.lengths, rows.ids, rows.segments):
            digest.update(tensor.numpy().tobytes())
        path = self.folder / f"{digest.hexdigest()[:32]}.safetensors"
        try:
            return load_file(path)["logits"]
        except (FileNotFoundError, SafetensorError, KeyError):
            pass
        logits = torch.nn.utils.rnn.pad_sequence(predict_logits(teacher, rows, device), batch_first=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        # The store sweeps away names with a dot: what a killed run left half-written.
        handle, name = tempfile.mkstemp(dir=self.folder, prefix=f".{path.name}.", suffix=".tmp")
        os.close(handle)
        temporary = Path(name)
        try:
            save_file({"logits": logits}, temporary)
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        return logits
