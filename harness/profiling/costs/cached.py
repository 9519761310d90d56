"""Workloads of pairs whose second segments are cached.

DeFormer's lower layers read segments apart, so it reads only the first segments (Cao et al. 2020, section 3). All other
models, including the baseline, read whole pairs.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.models.attention_kinds import SegmentAttention
from harness.models.batch import Batch
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.segment_cache import SecondCached, encode_segments, split_segments
from harness.models.model import Model
from harness.runtimes import Executable


def can_cache(model: Model | None) -> bool:
    """Whether a model's lower layers read segments apart, so that states of the second ones can be cached."""
    return isinstance(model, Encoder) and isinstance(model.config.layers[0].attention, SegmentAttention)


def with_cache(model: Model, batches: Sequence[Batch], cached: int | None) -> tuple[Model, list[Batch]]:
    """Return a model that holds the states of the second segments, and a batch of the first segments alone.

    Both stay unchanged if nothing is `cached` (tokens of the second segment) or the model cannot use it. A workload
    that caches has one batch. Raises the errors of `segment_cache.separate_layers`.
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
    """Do what `with_cache` does for an executable; `whole` and its batches stay unchanged if it shows no model."""
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
