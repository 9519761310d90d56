"""Initial word embeddings of a student: its teacher's, projected to fewer dimensions."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.models.encoder.encoder import Encoder
from harness.models.students.student import WORD_DEVIATION


def projected_words(teacher: Encoder, dimension: int) -> Tensor:
    """Project the teacher's word embeddings (V, H) to their first principal components (V, dimension).

    Each component is scaled to the standard deviation of initial word embeddings (`WORD_DEVIATION`); its sign makes the
    entry of its axis with the largest absolute value positive.
    """
    with torch.no_grad():
        words = teacher.embedding.word(torch.arange(teacher.config.vocab_size)[None])[0]
        if teacher.embedding.project is not None:
            words = teacher.embedding.project(words)
        words = words.double()  # (V, H)
        centred = words - words.mean(0)
        values, axes = torch.linalg.eigh(centred.T @ centred)
        axes = axes[:, values.argsort(descending=True)[:dimension]]  # (H, dimension)
        largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
        found = centred @ (axes * largest.sign())
        scaled: Tensor = found * (WORD_DEVIATION / found.std(correction=0).clamp_min(1e-30))
        return scaled.float()
