"""Counts from shapes alone equal the counts of real passes, for every kind of model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.models.artifacts import load_artifact
from harness.models.batch import Batch
from harness.models.config import ExitRule
from harness.models.model import Model
from harness.profiling.costs import counted as counts
from harness.profiling.inputs import Inputs, make_workload
from harness.profiling.profile import static_costs
from tests.support.runtime_models import BATCHES, CONFIGS, LAYER, PLAIN, drawn, encoder, quantized, saved

ASK_FOR_VALUES = {"bag of pairs", "lstm", "lstm of pairs", "rnn"}
"""Models that cut a batch at its longest text, which shapes do not show."""
SYNTHETIC = Inputs.of(make_workload(17, 3))


def counted(folder: Path, batches: list[Batch]) -> tuple[object, object]:
    """Count from shapes alone, and from real passes."""
    return tuple(
        count(load_artifact(folder), batches) for count in (counts.counted_on_shapes, counts.counted_on_rows)
    )  # type: ignore[return-value]


@pytest.mark.parametrize("kind", CONFIGS)
def test_shapes_tell_all(kind: str, tmp_path: Path) -> None:
    folder = saved(drawn(CONFIGS[kind]), tmp_path / "a")
    on_shapes, really = counted(folder, BATCHES)
    assert on_shapes == (None if kind in ASK_FOR_VALUES else really)


@pytest.mark.parametrize("per", ["channel", "tensor"])
def test_shapes_tell_all_of_maps_in_int8(per: str, tmp_path: Path) -> None:
    on_shapes, really = counted(saved(quantized(drawn(PLAIN), per), tmp_path / "a"), BATCHES)
    assert on_shapes == really


def test_rows_that_leave_early_run(tmp_path: Path) -> None:
    first = LAYER.model_copy(update={"exit": "pooler"})
    model = drawn(encoder(first, LAYER, exit_rule=ExitRule(kind="entropy", threshold=0.5)))
    assert counts.counted_on_shapes(model, BATCHES) is None
    found = static_costs(saved(model, tmp_path / "a"), SYNTHETIC)
    assert found.work.mean_depth is not None


@pytest.mark.parametrize("kind", ["plain", "lstm", "convolutions"])
def test_the_costs_are_those_of_real_passes(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(drawn(CONFIGS[kind]), tmp_path / "a")
    found = static_costs(folder, SYNTHETIC)
    refuse: Callable[[Model, list[Batch]], None] = lambda model, batches: None  # noqa: E731
    monkeypatch.setattr(counts, "counted_on_shapes", refuse)
    assert static_costs(folder, SYNTHETIC) == found
    assert found.work.total.macs > 0
    assert sum(found.activation_bytes.values()) > 0
