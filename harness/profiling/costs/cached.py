"""Workloads of pairs whose second segments were computed before: DeFormer reads the first ones alone (Cao et al. 2020,
section 3), any other model, the baseline among them, reads whole pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.models.batch import Batch
from harness.models.config import SegmentAttention
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.segment_cache import SecondCached, encode_segments, split_segments
from harness.models.model import Model
from harness.runtimes import Executable


def can_cache(model: Model | None) -> bool:
    """Whether a model's lower layers read segments apart."""
    return isinstance(model, Encoder) and isinstance(model.config.layers[0].attention, SegmentAttention)


def with_cache(model: Model, batches: Sequence[Batch], cached: int | None) -> tuple[Model, list[Batch]]:
    """The model with its second segments' states, and the first segments that it has yet to read; both as they are
    where nothing is `cached` or the model cannot use it. There is one batch of a workload that caches. Raises
    SkylineError as `segment_cache.separate_layers` does.
    """
    if cached is None or not isinstance(model, Encoder) or not can_cache(model):
        return model, list(batches)
    (batch,) = batches
    first, second = split_segments(batch)
    with torch.inference_mode():
        states = encode_segments(model, second)
    return SecondCached(model, states).eval(), [first]


def executed_with_cache(
    whole: Executable, batches: Sequence[Batch], cached: int | None
) -> tuple[Executable, list[Batch]]:
    """The same of what a runtime loaded: `whole` and its batches as they are where it shows no model."""
    if cached is None or whole.model is None:
        return whole, list(batches)
    model, own = with_cache(whole.model, batches, cached)
    if model is whole.model:
        return whole, own

    @torch.inference_mode()
    def run(batch: Batch) -> Tensor:
        logits: Tensor = model(batch).logits
        return logits

    return Executable(run, model), own
