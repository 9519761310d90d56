"""Whole profiles under other runtimes and precisions, in real child processes. Times only have to be plausible."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.common.errors import Code
from harness.models.config import LayerConfig
from harness.profiling.profile import profile_artifact
from harness.profiling.report import print_profile, profile_markdown
from harness.records.schema import Profile, Workload
from harness.runtimes import get_runtime
from tests.support.one_line_errors import refused
from tests.support.runtime_models import PLAIN, batch_of, drawn, encoder, quantized, saved

pytestmark = pytest.mark.slow
BASELINE = encoder(*[LayerConfig(heads=2, head_size=32, ffn_size=128)] * 3, hidden_size=64)


@pytest.fixture(autouse=True)
def _close_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow more different answers: models with random weights often give almost equal logits."""
    monkeypatch.setattr("harness.profiling.latency.agreement.EQUAL", 0.9)


def profiled(candidate: Path, baseline: Path, **asked: Any) -> Profile:
    given: dict[str, Any] = {"workload": Workload(batch=2, length=24), **asked}
    found = profile_artifact(
        candidate, baseline, recipe="made-up", model="small", weights="random", time_cap_s=1.0, **given
    )
    assert Profile.model_validate_json(found.model_dump_json()) == found
    return found


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_an_int8_artifact_under_another_runtime(name: str, tmp_path: Path) -> None:
    runtime = get_runtime(name)
    if not all(map(find_spec, runtime.packages)):
        pytest.skip(f"needs the extra '{runtime.extra}'")
    baseline, stored = saved(drawn(BASELINE), tmp_path / "baseline"), quantized(drawn(PLAIN))
    found = profiled(saved(stored, tmp_path / "int8"), baseline, runtime=name)
    assert (found.runtime, found.precision, found.executed_by) == (name, "float32", name)
    assert found.agreement is not None
    assert found.agreement.rows == 100
    assert found.latency is not None
    assert found.over_eager is not None
    assert found.total.latency_ms == found.latency.median_ms
    # A graph shows no times of components; all other costs are the artifact's.
    assert all(component.latency_ms is None for component in found.components)
    assert sum(component.params for component in found.components) == found.total.params
    assert found.total.peak_memory_bytes is not None
    assert found.realised["disk"]
    assert set(runtime.packages) < set(found.versions)
    text = profile_markdown(found)
    assert f"{name} on cpu" in text
    assert "of the predictions of 100 rows are equal" in text
    assert "against the baseline under eager: speedup" in text
    print_profile(found, Console(quiet=True))


def test_a_precision_beside_float32_of_the_same_artifact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.profiling.profile.FULL_CAP_S", 0.0)
    baseline = saved(drawn(BASELINE), tmp_path / "baseline")
    found = profiled(baseline, baseline, precision="int8", workload=Workload(batch=1, length=24))
    assert found.executed_by == "eager in int8"
    assert found.over_eager is None
    assert found.agreement is not None
    assert found.agreement.largest_difference > 0
    assert found.baseline is not None
    assert found.latency is not None
    assert found.baseline.latency_ms == found.latency.baseline_median_ms
    assert not found.realised["disk"]
    # The timed components are those that run in int8.
    assert all(component.latency_ms for component in found.components)


def test_real_rows_are_compared_and_timed(tmp_path: Path) -> None:
    baseline = saved(drawn(BASELINE), tmp_path / "baseline")
    rows = batch_of([9, 4, 17, 3, 8, 16, 24, 2])
    found = profiled(
        baseline,
        baseline,
        precision="int8",
        workload=Workload(batch=2, length=24, inputs="real"),
        real_batches=rows,
    )
    assert found.agreement is not None
    assert found.agreement.rows == 8


def test_a_runtime_that_answers_otherwise_has_no_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    baseline = saved(drawn(BASELINE), tmp_path / "baseline")
    monkeypatch.setattr("harness.profiling.latency.agreement.EQUAL", 1.01)
    with refused(Code.NOT_COMPARABLE, "'eager' in int8"):
        profiled(baseline, baseline, precision="int8")
