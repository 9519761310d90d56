"""What a row costs that leaves an encoder early, by its length and depth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from harness.models.batch import Batch
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.models.flops.counting import FlopCount, count_flops
from harness.models.initialization import without_weights


def flops_by_depth(model: Encoder, batch: Batch) -> dict[int, FlopCount]:
    """The work of `batch` if all of its rows left after the same number of layers, for each that they can leave at:
    those with a ramp, and the last.
    """
    return {depth: count_flops(model, batch, depth) for depth in model.config.exit_depths}


def row_macs(config: EncoderConfig, lengths: Sequence[int]) -> dict[int, NDArray[np.float64]]:
    """Multiply-adds of rows of these lengths (N), alone in their batch, by the depth after which they leave: (N,) each.

    Traced at three of the lengths; between them by the parabola through these, which is exact where every token attends
    to every other.
    """
    wanted = np.asarray(lengths)
    ordered = np.unique(wanted)
    known = np.unique(ordered[[0, len(ordered) // 2, -1]])
    shape = config.model_dump_json()
    found = {}
    for depth in config.exit_depths:
        macs = [_macs_at(shape, int(length), depth) for length in known]
        curve = np.polynomial.Polynomial.fit(known, macs, len(known) - 1) if len(known) > 1 else None
        found[depth] = np.full(len(wanted), float(macs[0])) if curve is None else curve(wanted)
    return found


@lru_cache(maxsize=1024)
def _macs_at(shape: str, length: int, depth: int) -> int:
    config = EncoderConfig.model_validate_json(shape)
    # A trace on shapes alone: no weights are made.
    with without_weights():
        model = Encoder(config).eval()
        ids = torch.zeros(1, length, dtype=torch.long)
        return count_flops(model, Batch(ids, torch.ones_like(ids), torch.zeros_like(ids)), depth).total.macs
