"""The inputs of a workload: synthetic rows of full length, or rows of a task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from harness.common.errors import Code, SkylineError
from harness.models.artifacts import load_artifact
from harness.models.batch import Batch
from harness.records.schema import Workload

REAL_ROWS, REAL_PASSES = 32, 4
"""The fewest rows and passes of a real workload, if the task has enough rows."""


def make_workload(
    length: int, batch: int, inputs: Literal["synthetic", "real"] = "synthetic", task: str | None = None
) -> Workload:
    """Make a workload from a user's numbers. Raises SkylineError (`OUT_OF_RANGE`) if one is below 1."""
    try:
        return Workload(batch=batch, length=length, inputs=inputs, task=task)
    except ValidationError:
        what, value = ("batch size", batch) if batch < 1 else ("sequence length", length)
        raise SkylineError(f"{what} {value} is out of range; use at least 1", Code.OUT_OF_RANGE) from None


@dataclass(frozen=True)
class Inputs:
    """A workload with its inputs, as plain values that another process can receive.

    `rows` holds the ids, mask and segments (3, rows, n) of the real rows that are run and timed, and `split` those of
    all real rows, over which costs are counted. Both are None for synthetic inputs.
    """

    workload: Workload
    rows: NDArray[np.int64] | None = None
    seed: int = 0
    split: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, workload: Workload, real: Batch | None = None, seed: int = 0) -> Inputs:
        """Make the inputs of a workload, with the rows of `representative_rows` of all `real` ones.

        Raises SkylineError (`NO_DATA`) if the workload wants real rows and `real` has less than one pass of them.
        """
        if workload.inputs == "synthetic":
            return cls(workload, None, seed)
        if real is None or len(real) < workload.batch:
            raise _too_few_rows(workload, 0 if real is None else len(real))
        split = real.arrays()[:, :, : workload.length]
        return cls(workload, split[:, representative_rows(tokens_of(split), workload.batch)], seed, split)

    @property
    def timed(self) -> Inputs:
        """The inputs without the rows that are only counted, which no process that runs or times passes needs."""
        return replace(self, split=None)

    def passes(self) -> list[NDArray[np.int64]]:
        """Return the row numbers (batch,) of each pass over the split: rows of neighbouring lengths, longest first.

        Rows that do not fill the last pass are left out, as they are when passes are timed. There are no passes if the
        inputs are synthetic.
        """
        if self.split is None:
            return []
        size = self.workload.batch
        order = np.argsort(-tokens_of(self.split), kind="stable")
        return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]

    def batches(self, vocab_size: int, device: str = "cpu") -> list[Batch]:
        """Return the batches of a measurement: one of random ids below `vocab_size`, or all that the real rows fill.

        A real batch is padded to its own longest row.
        """
        size = self.workload.batch
        if self.rows is None:
            batch = Batch.synthetic(size, self.workload.length, vocab_size, self.seed)
            if self.workload.cached is not None:
                batch.token_type_ids[:, -self.workload.cached :] = 1  # the second segments, which are cached
            return [batch.to(device)]
        whole = Batch.of_arrays(self.rows)
        whole = replace(whole, input_ids=whole.input_ids.clamp(max=vocab_size - 1))
        return [
            _without_padding(whole.rows(start, start + size)).to(device)
            for start in range(0, len(whole) - size + 1, size)
        ]


def _too_few_rows(workload: Workload, count: int) -> SkylineError:
    return SkylineError(
        f"a pass of this workload takes {workload.batch} real rows, and there are {count}; "
        "use a smaller batch, or a task with more rows",
        Code.NO_DATA,
    )


def _without_padding(batch: Batch) -> Batch:
    longest = max(1, int(batch.attention_mask.sum(1).max()))
    tensors = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
    return Batch(*(tensor[:, :longest] for tensor in tensors))  # (b, longest)


def tokens_of(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the tokens (rows,) of each row of ids, mask and segments (3, rows, n)."""
    lengths: NDArray[np.int64] = rows[1].sum(1)
    return lengths


def representative_rows(lengths: NDArray[np.int64], batch: int) -> NDArray[np.int64]:
    """Choose rows whose lengths represent all `lengths` (rows,): the numbers of whole passes of them, longest first.

    The sorted rows are cut into equal parts, and each part gives the row that brings the sum of the chosen lengths
    closest to what the rows up to this part's end have on the average.
    """
    wanted = min(len(lengths), max(REAL_ROWS, REAL_PASSES * batch))
    wanted -= wanted % batch
    order = np.argsort(-lengths, kind="stable")
    sums = np.concatenate([[0], np.cumsum(lengths[order])])
    # Parts of a whole number of rows are not all of one size, so their ends lie within rows.
    ends = np.arange(1, wanted + 1) * len(lengths) / wanted
    aims = np.interp(ends, np.arange(len(sums)), sums) * wanted / len(lengths)
    chosen: list[int] = []
    for part, aim in zip(np.array_split(order, wanted), aims, strict=True):
        missing = aim - lengths[chosen].sum()
        chosen.append(int(part[np.abs(lengths[part] - missing).argmin()]))
    return np.array(chosen)


def encoded_split(folder: Path, texts: list[str], pairs: list[str] | None, workload: Workload) -> Batch:
    """Return all rows of a split in the tokens of an artifact, cut at the workload's length: a batch (rows, n)."""
    return load_artifact(folder).encode(texts, pairs, workload.length)
