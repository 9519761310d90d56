"""Tokenized examples, and batches of rows with similar lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from harness.common.errors import Code, SkylineError
from harness.models.batch import Batch
from harness.models.model import Model
from harness.tasks import squad

if TYPE_CHECKING:
    from harness.tasks.base import Example, Kind

CHUNK = 50
"""The number of batches whose rows are sorted by length together. More gives less padding, fewer more randomness."""


class EncodedSplit:
    """N tokenized rows in flat tensors `ids` and `segments` (tokens,), with `targets` and `lengths` (N,). Row i is
    ids[starts[i] : starts[i + 1]].
    """

    def __init__(self, ids: list[list[int]], segments: list[list[int]], targets: Tensor, pad_id: int) -> None:
        """Take token ids and segments of each row. `targets` are class ids or scores (N,), or for spans the first and
        last token (N, 2).
        """
        self.lengths = torch.tensor([len(row) for row in ids])
        self.starts = torch.cumsum(torch.cat([torch.zeros(1, dtype=torch.long), self.lengths]), 0).tolist()
        # The type is given because without tokens it would be float.
        self.ids = torch.tensor([token for row in ids for token in row], dtype=torch.long)
        self.segments = torch.tensor([segment for row in segments for segment in row], dtype=torch.long)
        self.targets = targets
        self.pad_id = pad_id

    def __len__(self) -> int:
        return len(self.lengths)

    def part(self, start: int, stop: int) -> EncodedSplit:
        """Return the rows start … stop - 1."""
        slices = [slice(*self.starts[row : row + 2]) for row in range(start, stop)]
        ids, segments = ([tensor[s].tolist() for s in slices] for tensor in (self.ids, self.segments))
        return EncodedSplit(ids, segments, self.targets[start:stop], self.pad_id)

    def batch(self, rows: Sequence[int]) -> Batch:
        """Return b rows as one batch: ids, mask and segments (b, n), padded to the longest of the rows."""
        longest = max(int(self.lengths[row]) for row in rows)
        ids = torch.full((len(rows), longest), self.pad_id)  # (b, n)
        mask, segments = torch.zeros_like(ids), torch.zeros_like(ids)
        for place, row in enumerate(rows):
            start, stop = self.starts[row], self.starts[row + 1]
            ids[place, : stop - start] = self.ids[start:stop]
            segments[place, : stop - start] = self.segments[start:stop]
            mask[place, : stop - start] = 1
        return Batch(ids, mask, segments)

    def shuffled_batches(self, size: int, generator: torch.Generator) -> Iterator[list[int]]:
        """Yield the indices of all rows once, in random batches of `size` rows with similar lengths."""
        order = torch.randperm(len(self), generator=generator)
        batches: list[list[int]] = []
        for chunk in torch.split(order, size * CHUNK):
            by_length = chunk[self.lengths[chunk].argsort(stable=True)]
            batches += [part.tolist() for part in torch.split(by_length, size)]
        for place in torch.randperm(len(batches), generator=generator).tolist():
            yield batches[place]

    def sorted_batches(self, tokens: int) -> Iterator[list[int]]:
        """Yield the indices of all rows once, longest first, at most `tokens` tokens (with padding) in a batch."""
        rows = self.lengths.argsort(descending=True, stable=True).tolist()
        while rows:
            size = max(1, tokens // max(1, int(self.lengths[rows[0]])))
            yield rows[:size]
            rows = rows[size:]


def encode_examples(
    examples: Sequence[Example], model: Model, kind: Kind, max_length: int, source: str
) -> EncodedSplit:
    """Tokenize labelled examples for `model`. For spans, a long context gives several rows, one for each window.

    `source` names the examples in errors. Raises SkylineError without examples (`no-data`), if `max_length` exceeds
    the model's positions (`too-long`), and if the model has no tokenizer or cannot read pairs.
    """
    if not examples:
        raise SkylineError(f"{source} has no examples; check its files", Code.NO_DATA)
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
