"""The whole profile on small encoders, in real child processes. Times and memory only have to be plausible."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import pytest
import torch

from harness.common.errors import Code
from harness.models.artifacts import save_artifact
from harness.models.batch import Batch
from harness.models.codecs import Codec, Int8
from harness.models.config import COMPONENTS, EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.models.flops.counting import FlopCount, Work, count_flops
from harness.profiling.costs.memory import STRAY_BYTES, PeakMemory, measure_memory
from harness.profiling.costs.size import artifact_facts
from harness.profiling.inputs import Inputs, make_workload
from harness.profiling.latency.paired import measure_speed
from harness.profiling.latency.pairs import Plan
from harness.profiling.profile import StaticCosts, _Measured, faster, profile_artifact, realised
from harness.records.costs import COSTS
from harness.records.schema import Profile, Workload
from harness.runtimes import Execution, get_runtime, runtime_names
from tests.support.one_line_errors import refused
from tests.support.paired_latency import paired_latency, without_verdict

QUICK = Plan(cap_s=0.5, fewest=6, aa_every=1000)


def artifact(
    folder: Path, layers: int = 1, hidden: int = 32, vocab_size: int = 50, int8: bool = False
) -> Path:
    config = EncoderConfig.bert(layers, hidden, heads=2, vocab_size=vocab_size, positions=32)
    model = Encoder(config).initialize(torch.Generator().manual_seed(0))
    if int8:
        for name in model.matrix_names():
            model.storage.codecs[name] = Codec((Int8("channel"),))
            model.storage.kernels[name.removesuffix(".weight")] = "int8"
    save_artifact(model, folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Save a baseline, and a candidate that is smaller in every respect."""
    root = tmp_path_factory.mktemp("artifacts")
    return artifact(root / "baseline", layers=4, hidden=256), artifact(root / "candidate", int8=True)


@pytest.fixture(scope="module")
def profile(folders: tuple[Path, Path]) -> Profile:
    baseline, candidate = folders
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.profiling.profile.FULL_CAP_S", 0.0)
        return profile_artifact(
            candidate,
            baseline,
            recipe="made-up",
            model="small",
            weights="random",
            workload=Workload(batch=2, length=24),
            time_cap_s=1.0,
        )


def test_keys_of_the_design(profile: Profile) -> None:
    data = json.loads(profile.model_dump_json())
    assert {
        "recipe",
        "model",
        "workload",
        "components",
        "total",
        "latency",
        "realised",
        "hardware",
        "versions",
    } <= set(data)
    component = {
        "name",
        "params",
        "flops",
        "elementwise_flops",
        "weight_bytes",
        "activation_bytes",
        "latency_ms",
    }
    assert set(data["components"][0]) == component
    assert component - {"name"} | {"macs", "disk_bytes", "peak_memory_bytes"} <= set(data["total"])
    latency = (
        "median_ms",
        "p10_ms",
        "p90_ms",
        "samples",
        "speedup",
        "speedup_ci95",
        "aa_floor",
        "stopped_by",
    )
    assert set(latency) <= set(data["latency"])
    assert tuple(data["realised"]) == COSTS
    assert Profile.model_validate_json(profile.model_dump_json()) == profile


def test_components_add_up(profile: Profile) -> None:
    total = profile.total
    assert [c.name for c in profile.components] == list(COMPONENTS)
    for field in ("params", "flops", "weight_bytes", "activation_bytes"):
        assert sum(getattr(c, field) for c in profile.components) == getattr(total, field), field
    assert total.flops == 2 * total.macs
    assert total.uncounted_operators == []
    assert total.latency_ms == profile.latency.median_ms  # type: ignore[union-attr]
    assert total.residual_pct is not None
    timed = sum(c.latency_ms or 0 for c in profile.components)
    assert timed == pytest.approx((1 - total.residual_pct / 100) * total.latency_ms)


def test_figures_are_those_of_their_own_modules(profile: Profile, folders: tuple[Path, Path]) -> None:
    facts = artifact_facts(folders[1])
    assert profile.total.disk_bytes == facts.disk_bytes
    assert profile.total.params == facts.params
    assert profile.total.weight_bytes < facts.weight_bytes  # without the file's header
    config = EncoderConfig.bert(1, 32, heads=2, vocab_size=50, positions=32)
    assert profile.total.macs == count_flops(Encoder(config), Batch.synthetic(2, 24, 50)).total.macs
    assert profile.baseline is not None
    assert profile.baseline.disk_bytes == artifact_facts(folders[0]).disk_bytes
    assert profile.baseline.latency_ms == profile.latency.baseline_median_ms  # type: ignore[union-attr]


def test_costs_that_are_lower_are_realised(profile: Profile) -> None:
    assert {cost for cost, real in profile.realised.items() if real} >= {
        "disk",
        "parameters",
        "flops",
        "memory",
    }
    assert profile.baseline is not None
    assert profile.baseline.peak_memory_bytes is not None
    assert profile.total.peak_memory_bytes is not None
    # All weights that the candidate lacks show.
    lacking = profile.baseline.weight_bytes - profile.total.weight_bytes
    assert profile.baseline.peak_memory_bytes - profile.total.peak_memory_bytes > lacking - STRAY_BYTES > 12e6
    for each in (profile.total, profile.baseline):
        assert each.peak_memory_bytes == round(median(each.memory_samples))
        assert 3 <= len(each.memory_samples) <= 6
    assert profile.memory_floor is not None
    assert 0 < profile.memory_floor < 0.1


def test_the_baseline_itself_realises_nothing(folders: tuple[Path, Path]) -> None:
    found = profile_artifact(
        folders[1],
        folders[1],
        recipe="baseline",
        model="small",
        weights="random",
        workload=Workload(batch=1, length=8),
        time_cap_s=0.5,
    )
    assert not any(found.realised.values())
    assert found.baseline is not None
    assert found.baseline.peak_memory_bytes == found.total.peak_memory_bytes
    # So short a profile leaves out what takes longer than its pairs.
    assert found.ceilings is None
    assert found.total.residual_pct is None
    assert all(component.latency_ms is None for component in found.components)


@pytest.mark.parametrize(
    ("own", "lower"), [((96, 97, 97), True), ((97, 98, 98), False), ((99, 100, 103), False)]
)
def test_memory_is_lower_only_by_more_than_its_floor(own: tuple[int, ...], lower: bool) -> None:
    """The baseline's samples have a range of 2 %."""
    costs = [
        _Measured(1, StaticCosts(FlopCount(Work(), {}), {}, 1, {}, {}), PeakMemory(tuple(megabytes), None))
        for megabytes in ([round(1e6 * each) for each in own], [99_000_000, 100_000_000, 101_000_000])
    ]
    assert realised(*costs, paired_latency())["memory"] is lower
    assert not realised(*costs, paired_latency(), itself=True)["memory"]


def test_faster_is_an_interval_above_one() -> None:
    assert faster(paired_latency(speedup_ci95=(1.01, 1.2)))
    assert not faster(paired_latency(speedup_ci95=(0.99, 1.2)))
    assert not faster(without_verdict(1.01, 9.0))


@pytest.mark.parametrize(
    ("change", "code", "names"),
    [
        ({"workload": Workload(batch=1, length=33)}, Code.TOO_LONG, ("33", "32")),
        ({"runtime": "eagre"}, Code.UNKNOWN_NAME, ("'eager'",)),
        ({"device": "cudda"}, "'cudda'", ()),
        ({"time_cap_s": 0.0}, Code.OUT_OF_RANGE, ("0 s",)),
        ({"workload": Workload(batch=2, length=8, inputs="real")}, Code.NO_DATA, ("2", "0")),
    ],
)
def test_bad_input_is_said_before_anything_is_timed(
    folders: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, object],
    code: Code | str,
    names: tuple[str, ...],
) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("a measurement began")

    for name in ("measure_speed", "measure_memory", "measure_agreement", "run_isolated"):
        monkeypatch.setattr(f"harness.profiling.profile.{name}", never)
    asked = {"workload": Workload(batch=1, length=8), **change}
    with refused(code, *names):
        profile_artifact(folders[1], folders[0], recipe="r", model="m", weights="w", **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("length", "batch", "name"), [(0, 1, "length 0"), (8, 0, "batch size 0"), (-1, 1, "length -1")]
)
def test_workloads_below_one(length: int, batch: int, name: str) -> None:
    with refused(Code.OUT_OF_RANGE, name, "at least 1"):
        make_workload(length, batch)


def test_a_corrupted_artifact_is_a_users_error_from_the_child_too(
    tmp_path: Path, folders: tuple[Path, Path]
) -> None:
    broken = artifact(tmp_path / "broken")
    weights = broken / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    inputs = Inputs.of(make_workload(8, 1))
    with refused("weights.safetensors"):
        measure_speed(Execution(broken), Execution(folders[0]), inputs, plan=QUICK)
    with refused("weights.safetensors"):
        measure_memory(Execution(broken), inputs)


def test_memory_is_about_what_the_model_holds(folders: tuple[Path, Path]) -> None:
    """It counts the weights and the activations of a short pass, not the libraries."""
    weights = (folders[0] / "weights.safetensors").stat().st_size
    found = measure_memory(Execution(folders[0]), Inputs.of(make_workload(8, 1)))
    assert found.accelerator is None
    assert weights - STRAY_BYTES < found.resident < 1.2 * weights


def test_memory_grows_with_the_workload(folders: tuple[Path, Path]) -> None:
    small, large = (
        measure_memory(Execution(folders[0]), Inputs.of(make_workload(32, batch))).resident
        for batch in (1, 256)
    )
    # A single FFN activation of the large batch has more than 64 × 32 × 1024 × 4 bytes.
    assert large - small > 64 * 32 * 1024 * 4


def real_rows(count: int, length: int = 40) -> Batch:
    ids = torch.arange(count)[:, None].repeat(1, length)
    mask = torch.ones_like(ids)
    mask[:, length // 2 :] = 0
    return Batch(ids, mask, torch.zeros_like(ids))


def test_real_inputs_are_cut_grouped_and_leave_no_partial_batch() -> None:
    inputs = Inputs.of(make_workload(24, 2, "real"), real_rows(5))
    batches = inputs.batches(vocab_size=50)
    assert [b.input_ids[:, 0].tolist() for b in batches] == [[0, 2], [3, 4]]
    # The rows have 20 tokens, are padded to 40 and cut at 24; then padding that a whole batch shares is removed.
    assert all(b.input_ids.shape == (2, 20) for b in batches)
    assert batches[0].attention_mask.sum() == 2 * 20


def test_real_inputs_stay_within_a_smaller_vocabulary() -> None:
    inputs = Inputs.of(make_workload(8, 5, "real"), real_rows(5))
    assert inputs.batches(vocab_size=3)[0].input_ids[:, 0].tolist() == [0, 1, 2, 2, 2]


def test_synthetic_inputs_are_the_seeds() -> None:
    workload = make_workload(8, 2)
    first, again = (Inputs.of(workload).batches(50)[0] for _ in range(2))
    assert torch.equal(first.input_ids, again.input_ids)
    assert first.input_ids.shape == (2, 8)
    assert int(first.input_ids.max()) < 50


def test_real_inputs_reach_the_child(folders: tuple[Path, Path]) -> None:
    inputs = Inputs.of(make_workload(16, 1, "real"), real_rows(4))
    same = Execution(folders[1])
    found = measure_speed(same, same, inputs, plan=QUICK, components=False)
    assert found.components is None
    assert found.latency.samples >= 1


def test_models_of_different_vocabularies_get_the_same_ids(tmp_path: Path) -> None:
    small = artifact(tmp_path / "small", vocab_size=5)
    large = artifact(tmp_path / "large", vocab_size=500)
    inputs = Inputs.of(make_workload(16, 1))
    assert measure_speed(Execution(small), Execution(large), inputs, plan=QUICK).latency.median_ms > 0


def test_runtimes(folders: tuple[Path, Path]) -> None:
    assert "eager" in runtime_names()
    run = get_runtime("eager").load(folders[1], "cpu")
    assert run.model is not None
    batch = Batch.synthetic(3, 8, 50)
    logits = run(batch)
    assert logits.shape == (3, 2)
    assert logits.is_inference()
    with torch.inference_mode():
        assert torch.equal(logits, run.model(batch).logits)


def test_unknown_runtime_suggests_the_nearest() -> None:
    with refused(Code.UNKNOWN_NAME, "'eagr'", "'eager'"):
        get_runtime("eagr")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_profile_on_cuda(folders: tuple[Path, Path]) -> None:
    found = profile_artifact(
        folders[1],
        folders[0],
        recipe="made-up",
        model="small",
        weights="random",
        workload=Workload(batch=2, length=24),
        device="cuda",
        time_cap_s=2.0,
    )
    assert found.total.accelerator_memory_bytes is not None
    assert found.total.accelerator_memory_bytes > 0
    assert found.hardware.accelerator
