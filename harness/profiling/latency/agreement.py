"""A runtime's answers beside eager's: figures of speed are of use only where both answer alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from typing import Any

import torch
from torch import Tensor

from harness.common.errors import SkylineError
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
"""Of synthetic inputs: one of them is what may differ."""
EXACT = 1e-4
"""The most by which a logit may differ where everything is computed in float32."""
EQUAL = 0.99
"""The smallest share of equal predictions where it is not."""
CLOSE = 0.01
"""Scores count as equal that differ by this share of the largest one, or less."""


def measure_agreement(
    execution: Execution, inputs: Inputs, *, watch: Stopwatch | None = None
) -> Agreement | None:
    """Hold an execution against eager as the artifact says, in a process of its own; None where that is itself.

    Rows are the workload's real ones, or 100 synthetic ones of all lengths, in passes of the workload's shape. `watch`
    is told what the time went to. Raises SkylineError, with the figures, where they differ by more than is allowed, and
    as loading does.
    """
    if (execution.runtime, execution.precision) == ("eager", "float32"):
        return None
    found: Agreement
    found, own = run_isolated(watched, _compare, execution, inputs)
    if watch is not None:
        watch.add(own)
    exact = execution.precision == "float32" and not read_config(execution.folder).kernels
    if exact and not found.largest_difference <= EXACT:
        raise _differs(execution, found, f"float32 allows {EXACT:g}")
    if not found.equal >= EQUAL:
        raise _differs(execution, found, f"{100 * EQUAL:g} % have to be equal")
    return found


def _differs(execution: Execution, found: Agreement, allowed: str) -> SkylineError:
    return SkylineError(
        f"runtime '{execution.runtime}' in {execution.precision} does not answer as eager does: "
        f"{agreement_line(found)}; {allowed}"
    )


def _compare(execution: Execution, inputs: Inputs, watch: Stopwatch) -> Agreement:
    """Runs in the child."""
    config = read_config(execution.folder).model
    # A difference that is no number is the largest that a record can hold.
    worst = torch.finfo(torch.float32).max
    reference = replace(execution, runtime="eager", precision="float32", prepared=None)
    with watch.on("loading"):
        eager, other = load(reference), load(execution)
    equal: list[bool] = []
    largest = 0.0
    for batch in rows_to_compare(inputs, config, execution.device):
        with watch.on("passes"):
            expected, found = eager(batch), other(batch)
        differences = torch.nan_to_num((expected - found).abs(), nan=worst, posinf=worst)
        largest = max(largest, float(differences.max()))
        equal += same_predictions(expected, found, batch, config.head.kind).tolist()
    return Agreement(rows=len(equal), equal=sum(equal) / len(equal), largest_difference=largest)


def rows_to_compare(inputs: Inputs, config: Any, device: str) -> Iterator[Batch]:
    """Batches of the workload's real rows for a model of this configuration; or of synthetic ones of all lengths up to
    the workload's, padded to it, half of them pairs.
    """
    if inputs.rows is not None:
        yield from inputs.batches(config.vocab_size, device)
        return
    pairs = getattr(config, "segments", 2) > 1
    size, length = inputs.workload.batch, inputs.workload.length
    passes = ceil(ROWS / size)
    lengths = torch.linspace(length, min(2, length), passes * size).round().long()
    # Each pass has some of all lengths.
    for number, own in enumerate(lengths.view(size, passes).t()):
        batch = Batch.synthetic(size, length, config.vocab_size, inputs.seed + number)
        places = torch.arange(length)
        present = places < own[:, None]
        paired = (torch.arange(size)[:, None] + number) % 2 * pairs
        segments = (present & (places >= own[:, None] // 2)).long() * paired
        yield Batch(batch.input_ids * present, present.long(), segments).to(device)


def same_predictions(expected: Tensor, found: Tensor, batch: Batch, head: HeadKind) -> Tensor:
    """Which rows (b,) get the same answer from logits (b, outputs) or (b, n, 2): the same class, the same first and
    last token, or about the same score.
    """
    if head == "classification":
        return expected.argmax(1) == found.argmax(1)
    if head == "span":
        padding = batch.attention_mask[..., None] == 0
        first, second = (logits.masked_fill(padding, float("-inf")).argmax(1) for logits in (expected, found))
        return (first == second).all(1)
    return ((expected - found).abs() <= CLOSE * expected.abs().max()).all(1)
