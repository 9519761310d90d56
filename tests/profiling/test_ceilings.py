"""The machine's ceilings and the roofline: closed forms, and measurements that only have to be plausible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.common.hardware import Hardware
from harness.models.artifacts import load_artifact, read_config, save_artifact
from harness.models.batch import Batch
from harness.models.config import EncoderConfig, LayerConfig
from harness.models.encoder.encoder import Encoder
from harness.profiling.costs import ceilings as measuring
from harness.profiling.costs.ceilings import executed_precision, measure_ceilings
from harness.profiling.costs.components import activation_bytes, component_params, component_weight_bytes
from harness.profiling.costs.traffic import attainable, roofline, traffic
from harness.profiling.inputs import Inputs
from harness.profiling.latency.paired import measure_speed
from harness.profiling.latency.pairs import Plan
from harness.records.schema import PRECISIONS, Ceilings, Component, Precision, Profile, Total, Workload
from harness.runtimes import Execution
from tests.support.paired_latency import paired_latency

H, F, LAYERS, TOKENS = 16, 40, 2, 24
LAYER = LayerConfig(heads=2, head_size=8, ffn_size=F)
CONFIG = EncoderConfig(vocab_size=50, hidden_size=H, positions=32, layers=(LAYER,) * LAYERS)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use matrices and copies so small that measuring takes no time."""
    monkeypatch.setattr(measuring, "SIZE", 64)
    monkeypatch.setattr(measuring, "COPIED_BYTES", 1 << 16)
    monkeypatch.setattr(measuring, "BUDGET_S", 0.004)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ceilings") / "artifact"
    save_artifact(Encoder(CONFIG).initialize(torch.Generator().manual_seed(0)), path)
    return path


def parts_of(folder: Path) -> list[Component]:
    """Return the components of an artifact, with the costs from which traffic is computed."""
    model = load_artifact(folder)
    params, stored = component_params(model), component_weight_bytes(model, folder)
    written = activation_bytes(model, Batch.synthetic(1, TOKENS, CONFIG.vocab_size))
    return [part(name, params[name], written[name], weight_bytes=stored[name]) for name in params]


def part(name: str, params: int, activations: int, flops: int = 0, weight_bytes: int = 0) -> Component:
    return Component(
        name=name,
        params=params,
        flops=flops,
        elementwise_flops=0,
        weight_bytes=weight_bytes,
        activation_bytes=activations,
        latency_ms=None,
    )


@pytest.mark.parametrize(("executed", "width"), [("float32", 4), ("bfloat16", 2), ("int8", 1)])
def test_bytes_moved_by_an_encoder_are_the_closed_form(executed: Precision, width: int, folder: Path) -> None:
    # Outputs: words, segments and their norm; in each layer queries, keys, values; the context; its map and norm;
    # the FFN's inner map, outer map and norm; then the pooler and two logits.
    written = 4 * (3 * TOKENS * H + LAYERS * TOKENS * (3 * H + H + 2 * H + F + 2 * H) + H + 2)
    layer = 4 * (H * H + H) + 2 * H + (2 * H * F + F + H) + 2 * H
    maps = LAYERS * layer + (H * H + H) + (2 * H + 2)
    table = 4 * H * (50 + 32 + 2 + 2)
    found = traffic(parts_of(folder), executed)
    assert found.activations == 2 * written
    assert found.weights == width * maps + min(table, 4 * 3 * TOKENS * H)
    assert found.total == found.weights + found.activations


def test_a_large_embedding_is_read_by_the_row() -> None:
    embedding, ffn = part("embedding", 1_000_000, 300), part("ffn", 10, 50)
    assert traffic([embedding, ffn]).weights == 300 + 40
    assert traffic([part("embedding", 10, 300)]).weights == 40


def test_what_is_stored_in_fewer_bits_is_read_as_it_is_executed() -> None:
    assert traffic([part("ffn", 1000, 0, weight_bytes=375)]).weights == 4000


@given(st.floats(1e6, 1e15), st.floats(1e6, 1e13), st.floats(1e-3, 1e5))
def test_the_roof_is_the_lower_of_both_ceilings(peak: float, bandwidth: float, intensity: float) -> None:
    roof = attainable(peak, bandwidth, intensity)
    assert roof <= peak
    assert roof <= intensity * bandwidth
    assert roof in (peak, intensity * bandwidth)
    assert attainable(peak, bandwidth, 2 * intensity) >= roof


def profile_with(ceilings: Ceilings | None, **total: Any) -> Profile:
    """Make a profile with 2 GFLOPs in 10 ms, 100 MB of weights, and 50 MB of activations, written and read."""
    values: dict[str, Any] = {
        "params": 25_000_000,
        "flops": 2_000_000_000,
        "macs": 1_000_000_000,
        "elementwise_flops": 0,
        "weight_bytes": 100_000_000,
        "activation_bytes": 50_000_000,
        "latency_ms": 10.0,
        "disk_bytes": 1,
        "peak_memory_bytes": None,
    }
    known = Total(**{**values, **total})
    return Profile(
        recipe="baseline",
        model="m",
        weights="random",
        runtime="eager",
        device="cpu",
        workload=Workload(),
        components=[part("ffn", 25_000_000, 50_000_000, known.flops)],
        total=known,
        latency=paired_latency(
            median_ms=10.0, baseline_median_ms=10.0, speedup=1.0, speedup_ci95=(0.99, 1.01)
        ),
        ceilings=ceilings,
        baseline=known,
        realised={},
        hardware=Hardware(id="h", processor="p", cores=2, memory_gib=8),
        versions={},
    )


@pytest.mark.parametrize(
    ("copy", "roof", "bound"), [(1e10, 1e11, "memory"), (4e10, 4e11, "compute"), (1e12, 4e11, "compute")]
)
def test_the_share_of_the_roofline(copy: float, roof: float, bound: str) -> None:
    known = Ceilings(matmul_flops={"float32": 4e11}, copy_bytes=copy, executed="float32")
    found = roofline(profile_with(known))
    assert found is not None
    assert found.traffic.total == 200_000_000
    assert found.intensity == pytest.approx(10.0)
    assert found.reached == pytest.approx(2e11)
    assert found.attainable == pytest.approx(roof)
    assert found.share == pytest.approx(2e11 / roof)
    assert found.bound == bound


def test_where_there_is_no_roofline() -> None:
    known = Ceilings(matmul_flops={"float32": 4e11}, copy_bytes=1e10, executed="float32")
    assert roofline(profile_with(None)) is None
    assert roofline(profile_with(known, mean_depth=6.5)) is None
    assert roofline(profile_with(known, flops=0)) is None


def test_ceilings_are_measured_in_the_precisions_asked_for(quick: None) -> None:
    found = measure_ceilings("cpu", "float32")
    assert set(found.matmul_flops) == set(PRECISIONS)
    assert all(figure > 0 for figure in found.matmul_flops.values())
    assert found.copy_bytes > 0
    assert set(measure_ceilings("cpu", "float32", []).matmul_flops) == {"float32"}
    assert set(measure_ceilings("cpu", "int8", ["float32"]).matmul_flops) == {"float32", "int8"}


def test_ceilings_count_work_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_median_seconds", lambda work, device, budget: (work(), 0.5)[1])
    monkeypatch.setattr(measuring, "SIZE", 32)
    monkeypatch.setattr(measuring, "COPIED_BYTES", 1 << 12)
    found = measure_ceilings("cpu", "int8")
    assert found.matmul_flops == dict.fromkeys(PRECISIONS, 2 * 32**3 / 0.5)
    assert found.copy_bytes == 2 * 4096 / 0.5


def test_the_median_of_several_and_no_more_than_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = iter([9.0, 0.1, 0.3, 0.2, *[99.0] * 10])
    monkeypatch.setattr(measuring, "_seconds", lambda work, cuda: next(taken))
    # The first one warms up, and three take longer than the budget of half a second.
    assert measuring._median_seconds(lambda: torch.empty(0), "cpu", 0.5) == pytest.approx(0.2)
    assert next(taken) == 99.0


def test_int8_kernels_of_the_artifact_are_bounded_by_int8(folder: Path) -> None:
    config = read_config(folder)
    assert [executed_precision(config, each) for each in PRECISIONS] == list(PRECISIONS)
    own = config.model_copy(update={"kernels": {"layers.0.ffn.up": "int8"}})
    assert executed_precision(own, "float32") == "int8"


def test_the_run_that_times_takes_them_where_asked(folder: Path) -> None:
    same, inputs = Execution(folder), Inputs.of(Workload(batch=1, length=TOKENS))
    plan = Plan(cap_s=0.2, fewest=6, most=12)
    plain = measure_speed(same, same, inputs, plan=plan, components=False)
    found = measure_speed(same, same, inputs, plan=plan, components=False, ceilings=True)
    assert plain.ceilings is None
    assert found.ceilings is not None
    assert found.ceilings.executed == "float32"
    assert "float32" in found.ceilings.matmul_flops
    assert found.latency.samples >= 1
