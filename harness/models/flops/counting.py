"""FLOPs of one forward pass: fvcore's trace with Skyline's handles (`harness.models.flops.operators`).

A multiply-add is two FLOPs. For a layer with full attention over n tokens, hidden size H, heads × head size = P and FFN
size F, the closed form is n(4HP + 2HF) + 2n²P multiply-adds per sequence. The count equals it exactly.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn

from harness.models.batch import Batch, Output
from harness.models.encoder.encoder import run_to_depth
from harness.models.flops.operators import (
    COMPUTES_NOTHING,
    ELEMENTWISE,
    MACS,
    Handle,
    UnknownShapeError,
    operator_handles,
)
from harness.models.model import Model

if TYPE_CHECKING:
    from harness.models.encoder.encoder import Encoder


@dataclass(frozen=True)
class Work:
    """The work of a part of a model: multiply-adds of matrix operators, element operations of all other operators."""

    macs: int = 0
    elementwise_flops: int = 0

    @property
    def flops(self) -> int:
        """FLOPs of the matrix operators: two for each multiply-add."""
        return 2 * self.macs

    def __add__(self, other: Work) -> Work:
        return Work(self.macs + other.macs, self.elementwise_flops + other.elementwise_flops)


@dataclass(frozen=True)
class FlopCount:
    """The work of one forward pass over a whole batch.

    Element operations between components (the mask) are only in `total`; matrix work is always in `components` too.
    `uncounted` names operators that are neither counted nor known to compute nothing; if there are any, the figures are
    too low. `mean_depth` is the mean number of layers that rows ran through, None if rows cannot exit early.
    """

    total: Work
    components: dict[str, Work]
    uncounted: tuple[str, ...] = field(default=())
    mean_depth: float | None = None


class _Traceable(nn.Module):
    """A model whose inputs and outputs are plain tensors, as tracing needs them."""

    def __init__(self, model: Model, depth: int | None) -> None:
        super().__init__()
        self.model, self.depth = model, depth

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor
    ) -> tuple[Tensor, ...]:
        batch = Batch(input_ids, attention_mask, token_type_ids)
        if self.depth is not None:
            return run_to_depth(cast("Encoder", self.model), batch, self.depth)
        output: Output = self.model(batch)
        # A trace drops operators that no output depends on, such as a ramp at which no row exits.
        return (output.logits, *output.exits.values())


def count_flops(model: Model, batch: Batch, depth: int | None = None) -> FlopCount:
    """Count the work of `model(batch)`, in total and by component. A layer that runs twice is counted twice.

    If rows exit early, this is the work for this batch. With `depth`, for an encoder with exit ramps, it is the work if
    every row exits after `depth` layers, without the exit rule's own element operations. The model is not changed.
    """
    was_training = model.training
    model.eval()
    traceable = _Traceable(model, depth)
    inputs = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
    analysis = FlopCountAnalysis(traceable, inputs).clear_op_handles()
    unknown: set[str] = set()
    for name, handle in operator_handles().items():
        analysis.set_op_handle(name, _noting_unknown(name, handle, unknown))
    for name in COMPUTES_NOTHING:
        analysis.set_op_handle(name, None)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            counts = analysis.by_module_and_operator()
    finally:
        model.train(was_training)
    components: dict[str, Work] = {}
    seen: set[str] = set()
    for component, path, _ in model.components():
        # fvcore counts all runs of a shared module under one name.
        name = analysis.canonical_module_name(f"model.{path}")
        if name not in seen:
            seen.add(name)
            components[component] = components.get(component, Work()) + _work(counts[name])
        components.setdefault(component, Work())
    uncounted = unknown | {_readable(name) for name in analysis.unsupported_ops()}
    return FlopCount(_work(counts[""]), components, tuple(sorted(uncounted)))


def mean_flops(model: Model, batches: Sequence[Batch]) -> FlopCount:
    """Count the mean work of a forward pass over each of `batches`. Batches of the same shape whose rows exit at the
    same depths cost the same, so only the first is traced.
    """
    counted: dict[tuple[object, ...], FlopCount] = {}
    found: list[FlopCount] = []
    run: list[int] = []
    early = getattr(model.config, "exit_rule", None) is not None
    for batch in batches:
        with torch.no_grad():
            depths = model(batch).depths if early else None
        exited = () if depths is None else tuple(sorted(depths.tolist()))
        run.extend(exited)
        case = (*batch.input_ids.shape, exited)
        if case not in counted:
            counted[case] = count_flops(model, batch)
        found.append(counted[case])
    names = dict.fromkeys(name for count in found for name in count.components)
    return FlopCount(
        _mean([count.total for count in found]),
        {name: _mean([count.components[name] for count in found]) for name in names},
        tuple(sorted({name for count in found for name in count.uncounted})),
        sum(run) / len(run) if run else None,
    )


def _mean(work: Sequence[Work]) -> Work:
    macs, others = (sum(getattr(each, name) for each in work) for name in ("macs", "elementwise_flops"))
    return Work(round(macs / len(work)), round(others / len(work)))


def _work(count: Counter[str]) -> Work:
    return Work(int(count[MACS]), int(count[ELEMENTWISE]))


def _readable(name: str) -> str:
    return name.removeprefix("aten::")


def _noting_unknown(name: str, handle: Handle, unknown: set[str]) -> Handle:
    """Wrap a handle: if the trace does not give a shape, the operator is noted in `unknown`."""

    def noting(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
        try:
            return handle(inputs, outputs)
        except UnknownShapeError:
            unknown.add(_readable(name))
            return Counter()

    return noting
