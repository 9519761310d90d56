"""Tokenized examples, and batches of rows of similar length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.common.errors import SkylineError
from harness.models.batch import Batch
from harness.models.model import Model
from harness.tasks import squad

if TYPE_CHECKING:
    from harness.tasks.base import Example, Kind

CHUNK = 50
"""Batches that are sorted together: long enough for tight buckets, short enough to stay random."""


class EncodedSplit:
    """Tokenized rows in one flat tensor, with their targets. Row i holds tokens starts[i] … starts[i + 1] -
    1.
    """

    def __init__(self, ids: list[list[int]], segments: list[list[int]], targets: Tensor, pad_id: int) -> None:
        """`targets`: class ids or scores (N), or start and end tokens (N, 2)."""
        self.lengths = torch.tensor([len(row) for row in ids])
        self.starts = torch.cumsum(torch.cat([torch.zeros(1, dtype=torch.long), self.lengths]), 0).tolist()
        # Typed, as there may be no token at all.
        self.ids = torch.tensor([token for row in ids for token in row], dtype=torch.long)
        self.segments = torch.tensor([segment for row in segments for segment in row], dtype=torch.long)
        self.targets = targets
        self.pad_id = pad_id

    def __len__(self) -> int:
        return len(self.lengths)

    def part(self, start: int, stop: int) -> EncodedSplit:
        """The rows start … stop-1 alone."""
        slices = [slice(*self.starts[row : row + 2]) for row in range(start, stop)]
        ids, segments = ([tensor[s].tolist() for s in slices] for tensor in (self.ids, self.segments))
        return EncodedSplit(ids, segments, self.targets[start:stop], self.pad_id)

    def batch(self, rows: Sequence[int]) -> Batch:
        """The rows as one batch, padded to the longest of them."""
        longest = max(int(self.lengths[row]) for row in rows)
        ids = torch.full((len(rows), longest), self.pad_id)
        mask, segments = torch.zeros_like(ids), torch.zeros_like(ids)
        for place, row in enumerate(rows):
            start, stop = self.starts[row], self.starts[row + 1]
            ids[place, : stop - start] = self.ids[start:stop]
            segments[place, : stop - start] = self.segments[start:stop]
            mask[place, : stop - start] = 1
        return Batch(ids, mask, segments)

    def shuffled_batches(self, size: int, generator: torch.Generator) -> Iterator[list[int]]:
        """All rows once, in random batches of similar length (length bucketing)."""
        order = torch.randperm(len(self), generator=generator)
        batches: list[list[int]] = []
        for chunk in torch.split(order, size * CHUNK):
            by_length = chunk[self.lengths[chunk].argsort(stable=True)]
            batches += [part.tolist() for part in torch.split(by_length, size)]
        for place in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[place]

    def sorted_batches(self, tokens: int) -> Iterator[list[int]]:
        """All rows once, longest first, at most `tokens` (padding included) in a batch."""
        rows = self.lengths.argsort(descending=True, stable=True).tolist()
        while rows:
            size = max(1, tokens // max(1, int(self.lengths[rows[0]])))
            yield rows[:size]
            rows = rows[size:]


def encode_examples(
    examples: Sequence[Example], model: Model, kind: Kind, max_length: int, source: str
) -> EncodedSplit:
    """Tokenize labelled sentences or pairs for `model`; a row is a window of a context for spans.

    Raises SkylineError where `source` has no examples, or `max_length` exceeds the model's positions.
    """
    if not examples:
        raise SkylineError(f"{source} has no examples; check its files")
    model.check_length(max_length)
    tokenizer = model.require_tokenizer()
    if kind == "span":
        rows = squad.windows(tokenizer.fast, examples, max_length=max_length)
        ids, segments = [w.input_ids.tolist() for w in rows], [w.token_type_ids.tolist() for w in rows]
        targets = torch.tensor([(w.start, w.end) for w in rows])
    else:
        texts = [example.text for example in examples]
        paired = any(example.pair is not None for example in examples)
        model.check_pairs(paired)
        pairs = [example.pair or "" for example in examples] if paired else None
        encodings = tokenizer.tokens(texts, pairs, max_length)
        ids, segments = [e.ids for e in encodings], [e.type_ids for e in encodings]
        dtype = torch.float32 if kind == "regression" else torch.long
        targets = torch.tensor([example.label for example in examples], dtype=dtype)
    return EncodedSplit(ids, segments, targets, tokenizer.pad_id)
