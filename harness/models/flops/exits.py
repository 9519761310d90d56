"""FLOPs of rows that exit early, by their length and by the number of layers that they run through."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from harness.models.batch import Batch
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.models.flops.counting import count_flops
from harness.models.initialization import without_weights


def row_macs(config: EncoderConfig, lengths: Sequence[int]) -> dict[int, NDArray[np.float64]]:
    """Count the multiply-adds of rows of these N lengths, each alone in its batch: for each exit depth an array (N,).

    Three of the lengths are traced; the others lie on the parabola through them, which is exact for full attention.
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
    # The trace needs only shapes, so the model has no weights.
    with without_weights():
        model = Encoder(config).eval()
        ids = torch.zeros(1, length, dtype=torch.long)
        return count_flops(model, Batch(ids, torch.ones_like(ids), torch.zeros_like(ids)), depth).total.macs
