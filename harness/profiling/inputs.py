"""What a workload feeds to a model: synthetic rows of full length, or rows of a task."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from harness.common.errors import SkylineError
from harness.models.artifacts import load_artifact
from harness.models.batch import Batch
from harness.records.schema import Workload

REAL_ROWS, REAL_PASSES = 32, 4
"""Of a real workload: at least so many rows, in at least so many passes, where the task has them."""


def make_workload(
    length: int, batch: int, inputs: Literal["synthetic", "real"] = "synthetic", task: str | None = None
) -> Workload:
    """A workload from what a user gave. Raises SkylineError where a number is below 1."""
    try:
        return Workload(batch=batch, length=length, inputs=inputs, task=task)
    except ValidationError:
        what, value = ("batch size", batch) if batch < 1 else ("sequence length", length)
        raise SkylineError(f"{what} {value} is out of range; use at least 1") from None


@dataclass(frozen=True)
class Inputs:
    """A workload with its inputs, as plain values that travel to another process.

    `rows` holds ids, mask and segments (3, N, n) of real inputs, None for synthetic ones.
    """

    workload: Workload
    rows: NDArray[np.int64] | None = None
    seed: int = 0

    @classmethod
    def of(cls, workload: Workload, real: Batch | None = None, seed: int = 0) -> Inputs:
        """The inputs of a workload. Raises SkylineError where it wants real rows and there are too few of
        them.
        """
        if workload.inputs == "synthetic":
            return cls(workload, None, seed)
        if real is None or len(real) < workload.batch:
            have = 0 if real is None else len(real)
            raise SkylineError(
                f"the workload wants {workload.batch} real inputs a pass, has {have}; name a task with more"
            )
        return cls(workload, real.arrays()[:, :, : workload.length], seed)

    def batches(self, vocab_size: int, device: str = "cpu") -> list[Batch]:
        """One batch of random ids below `vocab_size`, or as many as the real rows fill, each padded to its longest
        row alone.
        """
        size = self.workload.batch
        if self.rows is None:
            batch = Batch.synthetic(size, self.workload.length, vocab_size, self.seed)
            if self.workload.cached is not None:
                batch.token_type_ids[:, -self.workload.cached :] = 1
            return [batch.to(device)]
        whole = Batch.of_arrays(self.rows)
        whole = replace(whole, input_ids=whole.input_ids.clamp(max=vocab_size - 1))
        return [
            _without_padding(whole.rows(start, start + size)).to(device)
            for start in range(0, len(whole) - size + 1, size)
        ]


def _without_padding(batch: Batch) -> Batch:
    longest = max(1, int(batch.attention_mask.sum(1).max()))
    tensors = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
    return Batch(*(tensor[:, :longest] for tensor in tensors))


def real_rows(folder: Path, texts: list[str], pairs: list[str] | None, workload: Workload) -> Batch:
    """Rows of a task for a workload, in the tokens of an artifact: as many as its passes take, of lengths evenly spread
    over those of all texts, the longest first. Raises SkylineError where there are fewer than one pass takes.
    """
    whole = load_artifact(folder).encode(texts, pairs, workload.length)
    if len(whole) < workload.batch:
        raise SkylineError(
            f"the workload wants {workload.batch} real inputs a pass, the task has {len(whole)}; use a smaller batch"
        )
    wanted = min(len(whole), max(REAL_ROWS, REAL_PASSES * workload.batch))
    wanted -= wanted % workload.batch
    order = whole.attention_mask.sum(1).argsort(descending=True, stable=True)
    chosen = order[torch.linspace(0, len(whole) - 1, wanted).round().long()]
    return Batch(whole.input_ids[chosen], whole.attention_mask[chosen], whole.token_type_ids[chosen])
