"""What a workload feeds to a model: synthetic rows of full length, or rows of a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError

from harness.encoder import Batch
from harness.errors import SkylineError
from harness.records import Workload


def make_workload(length: int, batch: int, inputs: Literal["synthetic", "real"] = "synthetic") -> Workload:
    """A workload from numbers that a user gave. Raises SkylineError where one of them is below 1."""
    try:
        return Workload(batch=batch, length=length, inputs=inputs)
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
        tensors = (real.input_ids, real.attention_mask, real.token_type_ids)
        rows = torch.stack([tensor[:, : workload.length].cpu().long() for tensor in tensors])
        return cls(workload, rows.numpy(), seed)

    def batches(self, vocab_size: int, device: str = "cpu") -> list[Batch]:
        """The batches that take turns: one of random ids below `vocab_size`, or as many as the real rows
        fill.
        """
        size = self.workload.batch
        if self.rows is None:
            return [Batch.synthetic(size, self.workload.length, vocab_size, self.seed).to(device)]
        ids, mask, segments = (torch.from_numpy(rows) for rows in self.rows)
        whole = Batch(ids.clamp(max=vocab_size - 1), mask, segments)
        return [whole.rows(start, start + size).to(device) for start in range(0, len(whole) - size + 1, size)]
