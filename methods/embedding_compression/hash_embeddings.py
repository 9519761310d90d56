"""hash-embeddings: a token's embedding becomes a weighted sum of a few vectors that it shares with other tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness import Card, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.config import HashedWords
from harness.models.shape_checks import refuse_other_words

with lazy_imports():
    import torch

    from harness.compression.pruning import vocabulary
    from harness.models import embeddings, surgery


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder

STEPS = 10
"""Steps of conjugate gradients in each round. They start from the last round's buckets."""
RIDGE = 1e-4
"""Ridge of both least-squares problems, as a share of the mean diagonal."""


def fit_buckets(
    table: Tensor, places: Tensor, buckets: int, rounds: int, weights: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return buckets (B, H) and importance p (V, k), for which Σ_i p_{w,i} B[places_{w,i}] approximates the rows of
    `table` (V, H). `places` is (V, k).

    Alternating least squares from p = 1 minimises Σ_w weight_w · |error_w|² (`weights` (V,), or all equal). With p
    fixed, conjugate gradients solve the normal equations for the buckets. With the buckets fixed, each token has k
    equations.
    """
    importance = torch.ones(places.shape, dtype=table.dtype, device=table.device)
    share = torch.ones_like(table[:, 0]) if weights is None else weights.to(table)
    share = share / share.mean()
    vectors = torch.zeros(buckets, table.shape[1], dtype=table.dtype, device=table.device)
    for _ in range(rounds):
        vectors = _buckets(table, places, importance, share, vectors)
        importance = _importance(table, places, vectors)
    return vectors, importance


def _summed(places: Tensor, importance: Tensor, vectors: Tensor) -> Tensor:
    return torch.nn.functional.embedding_bag(places, vectors, mode="sum", per_sample_weights=importance)


def _buckets(table: Tensor, places: Tensor, importance: Tensor, share: Tensor, start: Tensor) -> Tensor:
    """Solve (AᵀWA + ridge) B = AᵀW table by conjugate gradients, scaled by the diagonal; A (V, B): importance."""
    weighted = importance * share[:, None]

    def back(rows: Tensor) -> Tensor:
        total = torch.zeros_like(start)
        for place, weight in zip(places.T, weighted.T, strict=True):
            total.index_add_(0, place, rows * weight[:, None])
        return total

    diagonal = torch.zeros_like(start[:, 0])
    for place, weight in zip(places.T, (weighted * importance).T, strict=True):
        diagonal.index_add_(0, place, weight)
    ridge = RIDGE * diagonal.mean()
    scale = (diagonal + ridge)[:, None].clamp_min(1e-30)
    found = start
    residual = back(table - _summed(places, importance, found)) - ridge * found
    step = residual / scale
    before = (residual * step).sum(0)
    for _ in range(STEPS):
        moved = back(_summed(places, importance, step)) + ridge * step
        length = before / (step * moved).sum(0).clamp_min(1e-30)
        found = found + length * step
        residual = residual - length * moved
        scaled = residual / scale
        after = (residual * scaled).sum(0)
        step, before = scaled + after / before.clamp_min(1e-30) * step, after
    return found


def _importance(table: Tensor, places: Tensor, vectors: Tensor) -> Tensor:
    """Return each token's k weights, (V, k): the least-squares solution over its buckets."""
    parts = []
    for rows, own in zip(torch.split(table, 2048), torch.split(places, 2048), strict=True):
        chosen = vectors[own]  # (rows, k, H)
        gram = chosen @ chosen.transpose(1, 2)  # (rows, k, k)
        ridge = RIDGE * gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
        gram = gram + ridge[:, None, None] * torch.eye(own.shape[1], dtype=gram.dtype, device=gram.device)
        parts.append(torch.linalg.solve(gram, (chosen @ rows[:, :, None])[:, :, 0]))
    return torch.cat(parts)


class HashEmbeddings(Method):
    """e_w = Σ_i p_{w,i} · B[h_i(w)], i = 1 … k: fixed hashes choose k buckets of a pool that all tokens share, and each
    token has k weights (Svenstrup et al. 2017, section 3). Pool and weights begin as the least-squares fit to the
    fine-tuned table, and are fine-tuned with the encoder.
    """

    card = Card(
        id="hash-embeddings",
        title="Hash embeddings",
        family="embedding-compression",
        paper=Paper(
            title="Hash Embeddings for Efficient Word Representations",
            authors="Svenstrup, Hansen, Winther",
            year=2017,
            venue="NeurIPS",
            link="https://arxiv.org/abs/1709.03933",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "The paper trains small text classifiers from random buckets. Here buckets and weights begin as the "
            "alternating least-squares fit to the table of a fine-tuned encoder. A token's weights are not appended to "
            "its embedding, and each token has separate weights; the paper chooses them by a first hash."
        ),
        touches=("embedding",),
        reduces=("disk", "parameters", "memory"),
        notes="The buckets of a token are computed from its id and not stored.",
    )
    decides = frozenset({"the student"})

    @options
    class Options:
        """`buckets` B; `hashes` k; `rounds` of alternating least squares; `weighting` of its tokens: by their frequency
        in the training set, or equal.
        """

        buckets: Annotated[int, Field(ge=1)] = 4096
        hashes: Annotated[int, Field(ge=1, le=16)] = 2
        rounds: Annotated[int, Field(ge=1, le=1000)] = 5
        weighting: Literal["frequency", "equal"] = "frequency"

    suite = {
        "buckets": (256, 64),
        "hashes": (2, 1, 3),
        "rounds": (3,),
        "weighting": ("frequency", "equal"),
    }

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape with hashed word embeddings.

        Raises SkylineError: WRONG_SHAPE if the word embeddings are not a table; OUT_OF_RANGE if buckets and weights
        have as many parameters as the table.
        """
        refuse_other_words(config)
        o = self.options
        hashed = config.with_words(HashedWords(buckets=o.buckets, hashes=o.hashes))
        if hashed.word_parameters >= config.word_parameters:
            raise SkylineError(
                f"buckets={o.buckets} with hashes={o.hashes} take as much as the table of {config.vocab_size} x "
                f"{config.hidden_size} weights; use fewer",
                Code.OUT_OF_RANGE,
            )
        return hashed

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a copy of the teacher whose word embeddings are hashed."""
        o, config = self.options, teacher.config
        counts = vocabulary.token_counts(teacher, context) + 1
        weights = counts if o.weighting == "frequency" else None
        words = HashedWords(buckets=o.buckets, hashes=o.hashes)
        places = embeddings.HashedEmbedding(1, 1, words).places(torch.arange(config.vocab_size))
        table = teacher.embedding.word.weight.data.float().to(context.device)
        vectors, importance = fit_buckets(table, places.to(context.device), o.buckets, o.rounds, weights)
        student = surgery.hash_words(teacher, vectors.cpu(), importance.cpu())
        context.figures["squared error of word embeddings / their variance"] = vocabulary.relative_error(
            student, teacher
        )
        context.figures["the same by frequency in the training set"] = vocabulary.relative_error(
            student, teacher, counts
        )
        return student
