"""Counted costs of a workload: the FLOPs and activation bytes of one pass, the mean over all its passes.

A synthetic workload has one pass. One with real inputs has as many as its split fills: every row alone with batch size
1, otherwise rows of neighbouring lengths together, padded to the longest of them. Costs depend on shapes, so one pass
of each length is traced, and fewer if a parabola joins them (see `models.flops.lengths`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import Parameter

from harness.models.batch import Batch
from harness.models.encoder.encoder import Encoder
from harness.models.flops.counting import FlopCount, Work, count_flops, mean_flops
from harness.models.flops.lengths import Costs, at_lengths
from harness.models.model import Model
from harness.profiling.costs.cached import with_cache
from harness.profiling.costs.components import activation_bytes
from harness.profiling.inputs import Inputs, tokens_of

Counted = tuple[FlopCount, dict[str, int]]
"""The mean work of a pass, and its activation bytes by component."""

ROWS_AT_ONCE = 64
"""Rows of one length that run together to find out where they exit."""


def count(model: Model, inputs: Inputs) -> Counted:
    """Count the mean pass of a loaded model on a workload. Only if rows exit early are they run."""
    if inputs.split is not None:
        return _of_split(model, inputs, inputs.split)
    batches = inputs.batches(model.config.vocab_size)
    run, own = with_cache(model, batches, inputs.workload.cached)
    return (counted_on_shapes(model, batches) if run is model else None) or counted_on_rows(run, own)


def counted_on_shapes(model: Model, batches: Sequence[Batch]) -> Counted | None:
    """Count as `counted_on_rows` does, from shapes alone, without computing the passes.

    Returns None if the work depends on values, for example because rows exit early.
    """
    if _exits_early(model):
        return None
    try:
        return counted_on_rows(_without_weights(model), [batch.to("meta") for batch in batches])
    except RuntimeError:  # it reads a value; NotImplementedError is a RuntimeError
        return None


def counted_on_rows(model: Model, batches: Sequence[Batch]) -> Counted:
    """Count the mean pass over `batches` by running them."""
    activations = [activation_bytes(model, batch) for batch in batches]
    mean = {
        name: round(sum(each[name] for each in activations) / len(activations)) for name in activations[0]
    }
    return mean_flops(model, batches), mean


def _exits_early(model: Model) -> bool:
    return getattr(model.config, "exit_rule", None) is not None


def _without_weights(model: Model) -> Model:
    """Copy a model to the meta device, where tensors have shapes but no values."""
    known: dict[int, Any] = {id(model.tokenizer): model.tokenizer}
    known |= {id(parameter): Parameter(parameter.to("meta"), False) for parameter in model.parameters()}
    known |= {id(buffer): buffer.to("meta") for buffer in model.buffers()}
    return deepcopy(model, known)


class _Tracer:
    """Traces passes of a model, and turns means of their costs into a record."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._names: list[str] = []
        self._uncounted: set[str] = set()

    def costs(self, batch: Batch, depth: int | None = None) -> Costs:
        """Return the costs of one pass in one array: work in total and by component, then activation bytes."""
        work, activations = (
            count_flops(self._model, batch, depth),
            activation_bytes(self._model, batch, depth),
        )
        self._names = list(work.components)
        self._uncounted.update(work.uncounted)
        parts = (work.total, *work.components.values())
        figures = [figure for part in parts for figure in (part.macs, part.elementwise_flops)]
        return np.array([*figures, *(activations[name] for name in self._names)], dtype=np.int64)

    def record(self, mean: NDArray[np.float64], mean_depth: float | None = None) -> Counted:
        """Return a mean of such arrays as a record, rounded."""
        figures = [round(float(figure)) for figure in mean]
        count = len(self._names)
        work = [Work(*figures[2 * place : 2 * place + 2]) for place in range(count + 1)]
        components = dict(zip(self._names, work[1:], strict=True))
        activations = dict(zip(self._names, figures[2 * (count + 1) :], strict=True))
        return FlopCount(work[0], components, tuple(sorted(self._uncounted)), mean_depth), activations


def _of_split(model: Model, inputs: Inputs, split: NDArray[np.int64]) -> Counted:
    passes = inputs.passes()
    lengths = [max(1, int(tokens_of(split)[rows].max())) for rows in passes]
    kinks = [layer.kept for layer in getattr(model.config, "layers", ()) if getattr(layer, "kept", None)]
    if _exits_early(model):
        assert isinstance(model, Encoder)
        return _of_exits(model, split, passes, lengths, kinks)
    tracer, size = _Tracer(_without_weights(model)), inputs.workload.batch
    try:
        found = at_lengths(lambda n: tracer.costs(_full(size, n)), lengths, kinks)
        return tracer.record(np.mean([found[n] for n in lengths], axis=0))
    except RuntimeError:  # the work depends on more than the shape of the pass
        tracer = _Tracer(model)
        return tracer.record(np.mean(_of_texts(tracer, split, passes, lengths), axis=0))


def _full(size: int, length: int) -> Batch:
    return Batch.synthetic(size, length, 1).to("meta")


def _of_texts(
    tracer: _Tracer, split: NDArray[np.int64], passes: Sequence[NDArray[np.int64]], lengths: Sequence[int]
) -> list[Costs]:
    """Return the costs of each pass of a model that cuts both texts of a pair to the longest in the batch.

    Passes with the same longest texts cost the same, so the first of them is traced.
    """
    second = (split[1] * split[2]).sum(1)  # (rows,)
    first = tokens_of(split) - second
    traced: dict[tuple[int, int, int], Costs] = {}
    found: list[Costs] = []
    for rows, length in zip(passes, lengths, strict=True):
        case = (length, int(first[rows].max()), int(second[rows].max()))
        if case not in traced:
            traced[case] = tracer.costs(Batch.of_arrays(split[:, rows, :length]))
        found.append(traced[case])
    return found


def _of_exits(
    model: Encoder,
    split: NDArray[np.int64],
    passes: Sequence[NDArray[np.int64]],
    lengths: Sequence[int],
    kinks: Sequence[int],
) -> Counted:
    """Count passes whose rows leave at their own depths: a pass costs what its rows do.

    The work of a row follows from its length and depth; element operations of the exit rule itself do not count.
    """
    depths = _depths(model, split, passes, lengths)
    by_depth: dict[int, list[int]] = defaultdict(list)
    for rows, length in zip(passes, lengths, strict=True):
        for row in rows:
            by_depth[depths[row]].append(length)
    tracer = _Tracer(_without_weights(model))
    total = np.zeros(1)
    for depth, reached in by_depth.items():
        found = at_lengths(lambda n, depth=depth: tracer.costs(_full(1, n), depth), reached, kinks)  # type: ignore[misc]
        total = total + np.sum([found[n] for n in reached], axis=0)
    mean_depth = sum(depths.values()) / len(depths)
    return tracer.record(total / len(passes), mean_depth)


def _depths(
    model: Encoder, split: NDArray[np.int64], passes: Sequence[NDArray[np.int64]], lengths: Sequence[int]
) -> dict[int, int]:
    """Return after how many layers each row exits, by its number. Rows of passes of one length run together."""
    together: dict[int, list[int]] = defaultdict(list)
    for rows, length in zip(passes, lengths, strict=True):
        together[length].extend(rows.tolist())
    depths: dict[int, int] = {}
    with torch.inference_mode():
        for length, members in together.items():
            for start in range(0, len(members), ROWS_AT_ONCE):
                part = members[start : start + ROWS_AT_ONCE]
                arrays = split[:, part, :length]
                arrays[0] = arrays[0].clip(max=model.config.vocab_size - 1)
                found = model(Batch.of_arrays(arrays)).depths
                assert found is not None
                depths.update(zip(part, found.tolist(), strict=True))
    return depths
