"""The inputs of a workload: synthetic rows of full length, or rows of a task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
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

    `rows` holds the ids, mask and segments (3, rows, n) of real inputs; it is None for synthetic ones.
    """

    workload: Workload
    rows: NDArray[np.int64] | None = None
    seed: int = 0

    @classmethod
    def of(cls, workload: Workload, real: Batch | None = None, seed: int = 0) -> Inputs:
        """Make the inputs of a workload.

        Raises SkylineError (`NO_DATA`) if the workload wants real rows and `real` has less than one pass of them.
        """
        if workload.inputs == "synthetic":
            return cls(workload, None, seed)
        if real is None or len(real) < workload.batch:
            raise _too_few_rows(workload, 0 if real is None else len(real))
        return cls(workload, real.arrays()[:, :, : workload.length], seed)

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


def real_rows(folder: Path, texts: list[str], pairs: list[str] | None, workload: Workload) -> Batch:
    """Choose rows of a task for a workload, in the tokens of an artifact: a batch (rows, n).

    Their lengths are spread evenly over the lengths of all texts, the longest first. Raises SkylineError (`NO_DATA`) if
    the texts do not fill one pass.
    """
    whole = load_artifact(folder).encode(texts, pairs, workload.length)
    if len(whole) < workload.batch:
        raise _too_few_rows(workload, len(whole))
    wanted = min(len(whole), max(REAL_ROWS, REAL_PASSES * workload.batch))
    wanted -= wanted % workload.batch
    order = whole.attention_mask.sum(1).argsort(descending=True, stable=True)
    chosen = order[torch.linspace(0, len(whole) - 1, wanted).round().long()]
    return Batch(whole.input_ids[chosen], whole.attention_mask[chosen], whole.token_type_ids[chosen])
