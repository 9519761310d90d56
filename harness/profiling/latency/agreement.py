"""Compares a runtime's answers with eager's: a speedup means something only if both give the same answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from typing import Any

import torch
from torch import Tensor

from harness.common.errors import Code, SkylineError
from harness.common.processes import run_isolated
from harness.models.artifacts import read_config
from harness.models.batch import Batch
from harness.models.config import HeadKind
from harness.profiling.inputs import Inputs
from harness.profiling.report import agreement_line
from harness.profiling.stopwatch import Stopwatch, watched
from harness.records.schema import Agreement
from harness.runtimes import Execution, load

ROWS = 100
"""Synthetic rows that are compared, at least; one in a hundred may differ (`EQUAL`)."""
EXACT_ROWS = 20
"""Synthetic rows that are compared, at least, if everything is computed in float32: then no logit may differ."""
EXACT = 1e-4
"""The most by which a logit may differ if everything is computed in float32."""
EQUAL = 0.99
"""The smallest share of equal predictions if not everything is computed in float32."""
CLOSE = 0.01
"""Scores of a regression are equal if they differ by at most this share of the largest score."""


def measure_agreement(
    execution: Execution, inputs: Inputs, *, watch: Stopwatch | None = None
) -> Agreement | None:
    """Compare the answers of an execution with eager's in float32, in another process; None if it is eager in float32.

    The rows are the workload's real ones, or synthetic ones of all lengths, in passes of the workload's shape. `watch`
    books the time. Raises SkylineError (`NOT_COMPARABLE`), with the figures, if they differ by more than is allowed,
    and the errors of `Runtime.load`.
    """
    if (execution.runtime, execution.precision) == ("eager", "float32"):
        return None
    found: Agreement
    exact = execution.precision == "float32" and not read_config(execution.folder).kernels
    found, child_watch = run_isolated(watched, _compare, execution, inputs, EXACT_ROWS if exact else ROWS)
    if watch is not None:
        watch.add(child_watch)
    if exact and not found.largest_difference <= EXACT:
        raise _differs(execution, found, f"float32 allows {EXACT:g}")
    if not found.equal >= EQUAL:
        raise _differs(execution, found, f"{100 * EQUAL:g} % have to be equal")
    return found


def _differs(execution: Execution, found: Agreement, allowed: str) -> SkylineError:
    return SkylineError(
        f"runtime '{execution.runtime}' in {execution.precision} does not answer as eager does: "
        f"{agreement_line(found)}; {allowed}",
        Code.NOT_COMPARABLE,
    )


def _compare(execution: Execution, inputs: Inputs, rows: int, watch: Stopwatch) -> Agreement:
    """Runs in the child."""
    config = read_config(execution.folder).model
    # NaN and infinity become the largest difference that a record can hold.
    worst = torch.finfo(torch.float32).max
    reference = replace(execution, runtime="eager", precision="float32", prepared=None)
    with watch.on("loading"):
        eager, other = load(reference), load(execution)
    equal: list[bool] = []
    largest = 0.0
    for batch in rows_to_compare(inputs, config, execution.device, rows):
        with watch.on("passes"):
            expected, found = eager(batch), other(batch)
        differences = torch.nan_to_num((expected - found).abs(), nan=worst, posinf=worst)
        largest = max(largest, float(differences.max()))
        equal += same_predictions(expected, found, batch, config.head.kind).tolist()
    return Agreement(rows=len(equal), equal=sum(equal) / len(equal), largest_difference=largest)


def rows_to_compare(inputs: Inputs, config: Any, device: str, rows: int = ROWS) -> Iterator[Batch]:
    """Yield batches (b, n) of the workload's real rows, for a model of this configuration.

    A synthetic workload has at least `rows` rows, of all lengths up to its own, padded to it, half of them pairs.
    """
    if inputs.rows is not None:
        yield from inputs.batches(config.vocab_size, device)
        return
    pairs = getattr(config, "segments", 2) > 1
    size, length = inputs.workload.batch, inputs.workload.length
    passes = ceil(rows / size)
    lengths = torch.linspace(length, min(2, length), passes * size).round().long()  # (passes × b,)
    # Neighbouring lengths go to different passes, so that each pass has short and long rows.
    for number, tokens in enumerate(lengths.view(size, passes).t()):  # (b,)
        batch = Batch.synthetic(size, length, config.vocab_size, inputs.seed + number)
        positions = torch.arange(length)  # (n,)
        present = positions < tokens[:, None]  # (b, n)
        paired = (torch.arange(size)[:, None] + number) % 2 * pairs  # (b, 1)
        segments = (present & (positions >= tokens[:, None] // 2)).long() * paired  # (b, n)
        yield Batch(batch.input_ids * present, present.long(), segments).to(device)


def same_predictions(expected: Tensor, found: Tensor, batch: Batch, head: HeadKind) -> Tensor:
    """Say for each row (b,) whether two tensors of logits, (b, outputs) or (b, n, 2), give the same answer.

    That is the same class, the same first and last token, or a score within `CLOSE`.
    """
    if head == "classification":
        return expected.argmax(1) == found.argmax(1)
    if head == "span":
        padding = batch.attention_mask[..., None] == 0  # (b, n, 1)
        first, second = (logits.masked_fill(padding, float("-inf")).argmax(1) for logits in (expected, found))
        return (first == second).all(1)  # (b, 2) → (b,)
    return ((expected - found).abs() <= CLOSE * expected.abs().max()).all(1)
