"""A teacher's word embeddings in fewer dimensions, for a student of the same tokens to begin with."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.models.encoder.encoder import Encoder
from harness.models.students.student import WORD_DEVIATION


def projected_words(teacher: Encoder, dimension: int) -> Tensor:
    """The principal components (V, dimension) of the teacher's word embeddings about their mean, scaled to the
    deviation that drawn ones have. Each component's sign makes its largest entry positive.
    """
    with torch.no_grad():
        words = teacher.embedding.word(torch.arange(teacher.config.vocab_size)[None])[0]
        if teacher.embedding.project is not None:
            words = teacher.embedding.project(words)
        words = words.double()
        centred = words - words.mean(0)
        values, axes = torch.linalg.eigh(centred.T @ centred)
        axes = axes[:, values.argsort(descending=True)[:dimension]]
        largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
        found = centred @ (axes * largest.sign())
        scaled: Tensor = found * (WORD_DEVIATION / found.std(correction=0).clamp_min(1e-30))
        return scaled.float()
