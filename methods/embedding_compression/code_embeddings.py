"""code-embeddings: a token's embedding becomes the sum of one vector from each of several code books."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field

from harness import Card, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.config import CodedWords
from harness.models.shape_checks import refuse_other_words

with lazy_imports():
    import torch

    from harness.compression.pruning import vocabulary
    from harness.models import surgery


if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harness.compression.context import Context
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder

BATCH = 128
LEARNING_RATE = 1e-3
"""Peak rate of Adam. It falls linearly to zero over the second half of the steps."""
FROM_ZERO = 1e-8
"""Keeps logarithms finite."""
RIDGE = 1e-4
"""Ridge of the least squares for the books, as a share of the mean weight of an entry."""


def learn_codes(
    table: Tensor,
    books: int,
    entries: int,
    steps: int,
    generator: torch.Generator,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return codes (V, M), uint8, and code books (M, K, H), whose sums approximate the rows of `table` (V, H), float32.

    An autoencoder with one hidden layer of M · K / 2 units learns the codes: h = tanh(e A + a), α = softplus(h D + d).
    Each book's choice is softmax((log α + Gumbel noise) / τ) with τ = 1; the loss is the squared error (Shu & Nakayama
    2018, section 4). Rows are drawn by `weights` (V,), or uniformly. At the end each code is the largest of its book's
    α, and the books are fitted to the fixed codes.
    """
    count, hidden = table.shape
    mean = table.mean(0)
    scale = (table - mean).square().mean().sqrt().clamp_min(1e-12)
    rows = (table - mean) / scale
    sampled = None if weights is None else weights.double().cpu()
    inner = max(1, books * entries // 2)

    def drawn(*shape: int, deviation: float) -> Tensor:
        values = torch.randn(shape, generator=generator) * deviation
        return values.to(table.device).requires_grad_()

    into, into_bias = drawn(hidden, inner, deviation=hidden**-0.5), drawn(inner, deviation=0.0)
    out, out_bias = (
        drawn(inner, books * entries, deviation=inner**-0.5),
        drawn(books * entries, deviation=0.0),
    )
    vectors = drawn(books * entries, hidden, deviation=0.3 * books**-0.5)

    def logits(batch: Tensor) -> Tensor:
        alpha = torch.nn.functional.softplus(torch.tanh(batch @ into + into_bias) @ out + out_bias)
        return (alpha + FROM_ZERO).log().view(-1, books, entries)  # (rows, M · K) -> (rows, M, K)

    parameters = [into, into_bias, out, out_bias, vectors]
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE)
    decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, 2 * (steps - step) / steps))
    with torch.enable_grad():
        for _ in range(steps):
            if sampled is None:
                chosen = torch.randint(0, count, (BATCH,), generator=generator)
            else:
                chosen = torch.multinomial(sampled, BATCH, replacement=True, generator=generator)
            batch = rows[chosen.to(table.device)]
            uniform = torch.rand((BATCH, books, entries), generator=generator).clamp_(FROM_ZERO, 1 - 1e-7)
            gumbel = -(-uniform.log()).log().to(table.device)
            choice = torch.softmax(logits(batch) + gumbel, dim=-1)  # (rows, M, K)
            error = (choice.flatten(1) @ vectors - batch).square().sum(1).mean() / 2
            optimizer.zero_grad()
            torch.autograd.backward(error)
            optimizer.step()
            decay.step()
    with torch.no_grad():
        codes = torch.cat([logits(part).argmax(-1) for part in torch.split(rows, 4096)])
    return codes.to(torch.uint8), fit_books(table, codes, entries, weights)


def fit_books(table: Tensor, codes: Tensor, entries: int, weights: Tensor | None = None) -> Tensor:
    """Return the books (M, K, H) whose sums by `codes` (V, M) have the smallest squared error to `table` (V, H),
    weighted by `weights` (V,) if given. An entry that no token uses is zero.

    A small ridge makes the solution unique: without it, one book could add what another subtracts.
    """
    books = codes.shape[1]
    places = codes.long() + torch.arange(books, device=codes.device) * entries
    share = torch.ones(len(table), dtype=torch.float64) if weights is None else weights.double()
    share = (share / share.sum()).to(table.device)
    together = torch.zeros(books * entries, books * entries, dtype=torch.float64, device=table.device)
    sums = torch.zeros(books * entries, table.shape[1], dtype=torch.float64, device=table.device)
    parts = (torch.split(tensor, 4096) for tensor in (table, places, share))
    for rows, own, weight in zip(*parts, strict=True):
        chosen = torch.zeros(len(rows), books * entries, dtype=torch.float64, device=table.device)
        chosen.scatter_(1, own, 1.0)  # one-hot (rows, M · K)
        together += chosen.T @ (chosen * weight[:, None])
        sums += chosen.T @ (rows.double() * weight[:, None])
    together.diagonal().add_(RIDGE / entries)
    solved: Tensor = torch.linalg.solve(together, sums)
    return solved.to(table.dtype).view(books, entries, -1)


def _power_of_two(entries: int) -> int:
    if entries & (entries - 1):
        raise ValueError("must be a power of two, as a code fills its bits")
    return entries


class CodeEmbeddings(Method):
    """e_w = Σ_m C_m[code_{w,m}]: each token has M codes of log₂ K bits; there are M code books of K vectors (Shu &
    Nakayama 2018; for Transformers: Prakash et al. 2020). Codes are learned from the fine-tuned table and then fixed;
    the books are fine-tuned with the encoder.
    """

    card = Card(
        id="code-embeddings",
        title="Compositional code embeddings",
        family="embedding-compression",
        paper=Paper(
            title="Compressing Transformer-Based Semantic Parsing Models using Compositional Code Embeddings",
            authors="Prakash, Shashidhar, Zhao, Rongali, Khan, Kayser",
            year=2020,
            venue="Findings of EMNLP",
            link="https://arxiv.org/abs/2010.05002",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "The codes are learned from the table after fine-tuning on the task, in 6,000 steps of Adam at 1e-3 "
            "instead of 200,000 at 1e-4, with rows scaled to unit variance. Rows are drawn as often as the token is in "
            "the training set; the paper draws all alike (sampling=uniform). The books are then fitted to the codes by "
            "least squares. The paper's task is semantic parsing; it has no results on GLUE."
        ),
        touches=("embedding",),
        reduces=("disk", "parameters", "memory"),
        notes=(
            "A code counts as a parameter of log2 K bits. A token's embedding is a sum of M vectors, so an encoder is "
            "a little slower than with a table."
        ),
    )
    decides = frozenset({"the student"})

    @options
    class Options:
        """`books` M; `entries` K, a power of two; `steps` of the autoencoder; `sampling` of rows: by their frequency in
        the training set, or uniform as published.
        """

        books: Annotated[int, Field(ge=1, le=256)] = 32
        entries: Annotated[int, Field(ge=2, le=256), AfterValidator(_power_of_two)] = 16
        steps: Annotated[int, Field(ge=1)] = 6000
        sampling: Literal["frequency", "uniform"] = "frequency"

    suite = {
        "books": (8, 4),
        "entries": (8, 4),
        "steps": (40,),
        "sampling": ("frequency", "uniform"),
    }

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape with coded word embeddings.

        Raises SkylineError: WRONG_SHAPE if the word embeddings are not a table; OUT_OF_RANGE if codes and books take as
        much space as the table.
        """
        refuse_other_words(config)
        o, hidden = self.options, config.hidden_size
        words = CodedWords(books=o.books, entries=o.entries)
        bits = config.vocab_size * o.books * words.code_bits + o.books * o.entries * hidden * 32
        if bits >= config.vocab_size * hidden * 32:
            raise SkylineError(
                f"books={o.books} of entries={o.entries} take as much as the table of {config.vocab_size} x {hidden} "
                "weights; use fewer",
                Code.OUT_OF_RANGE,
            )
        return config.with_words(words)

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a copy of the teacher whose word embeddings are codes."""
        o = self.options
        table = teacher.embedding.word.weight.data.float().to(context.device)
        weights = vocabulary.token_counts(teacher, context) + 1 if o.sampling == "frequency" else None
        codes, books = learn_codes(table, o.books, o.entries, o.steps, context.generator("codes"), weights)
        student = surgery.code_words(teacher, codes.cpu(), books.cpu())
        context.figures["squared error of word embeddings / their variance"] = vocabulary.relative_error(
            student, teacher
        )
        return student
