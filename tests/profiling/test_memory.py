"""Peak memory: when samples suffice, what their noise floor is, and that the figure is the artifact's own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.models.artifacts import WEIGHTS, save_artifact
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.profiling.costs import memory
from harness.profiling.costs.memory import (
    FEWEST_SAMPLES,
    MOST_SAMPLES,
    STRAY_BYTES,
    PeakMemory,
    measure_memory,
    memory_floor,
    settled,
)
from harness.profiling.inputs import Inputs, make_workload
from harness.profiling.stopwatch import Stopwatch
from harness.runtimes import Execution

MB = 1_000_000
peaks = st.lists(st.integers(0, 10**12), min_size=1, max_size=MOST_SAMPLES)


def of(*megabytes: float) -> PeakMemory:
    return PeakMemory(tuple(round(each * MB) for each in megabytes), None)


@pytest.mark.parametrize(
    ("megabytes", "enough"),
    [
        ((100, 100), False),
        ((100, 100.5, 100.2), True),
        ((100, 100, 100.05), True),
        ((100, 100, 100.5), False),
        ((100, 100.2, 99.5, 100.1), True),
        ((100, 101, 102, 103, 104), False),
        ((100, 101, 102, 103, 104, 105), True),
    ],
)
def test_samples_suffice_when_the_last_did_not_widen_the_range(
    megabytes: tuple[float, ...], enough: bool
) -> None:
    assert settled(of(*megabytes).samples) is enough


@given(peaks)
def test_three_to_six_samples_are_taken(samples: list[int]) -> None:
    assert settled(samples) <= (len(samples) >= FEWEST_SAMPLES)
    assert settled(samples) >= (len(samples) >= MOST_SAMPLES)


def test_the_figure_is_the_median_and_the_floor_the_larger_range() -> None:
    steady, spread = of(50, 50, 50), of(100, 98, 104)
    assert spread.resident == 100 * MB
    assert spread.range == 6 * MB
    assert memory_floor(steady, spread) == pytest.approx(6 / 100)
    assert memory_floor(spread, steady) == pytest.approx(6 / 50)


def test_the_floor_is_not_below_what_two_runs_differ_by() -> None:
    assert memory_floor(of(50, 50, 50), of(100, 100, 100)) == pytest.approx(STRAY_BYTES / (100 * MB))
    assert memory_floor(of(0, 0, 0), of(0.1, 0.1, 0.1)) == 1
    assert memory_floor(of(0, 0, 0), of(0, 0, 0)) == 1


@given(peaks, peaks)
def test_two_measurements_of_one_artifact_never_tell_it_from_itself(one: list[int], other: list[int]) -> None:
    """Whatever its samples are: medians of any two groups of them differ by at most the floor."""
    both = [*one, *other]
    spread = PeakMemory((min(both), max(both), *both), None)
    own, base = PeakMemory((*one, min(both), max(both)), None), spread
    floor = memory_floor(own, base)
    assert 0 < floor <= 1
    assert not own.resident < (1 - floor) * base.resident - 1


def test_each_sample_is_of_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([(90, 5), (100, 7), (101, 6), (95, 1)])

    def isolated(*_: object) -> tuple[tuple[int, int | None], Stopwatch]:
        watch = Stopwatch()
        watch.seconds["passes"] = 1.0
        return next(found), watch

    monkeypatch.setattr(memory, "run_isolated", isolated)
    watch = Stopwatch()
    peak = measure_memory(Execution(Path("a")), Inputs.of(make_workload(8, 1)), watch=watch)
    assert peak == PeakMemory((90, 100, 101, 95), 7)
    assert watch.seconds["passes"] == 4


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="needs a page cache that can be emptied")
def test_the_page_cache_does_not_show(tmp_path: Path) -> None:
    """Weights count in full, whether the file is in the page cache or not, and however few words are read."""
    config = EncoderConfig.bert(1, 64, heads=2, vocab_size=100_000, positions=16)
    save_artifact(Encoder(config).initialize(torch.Generator().manual_seed(0)), tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "cold")
    weights = tmp_path / "cold" / WEIGHTS
    with weights.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    inputs = Inputs.of(make_workload(8, 1))
    warm, cold = (measure_memory(Execution(tmp_path / name), inputs) for name in ("a", "cold"))
    assert min(*warm.samples, *cold.samples) >= weights.stat().st_size - STRAY_BYTES > 25 * MB
    assert abs(warm.resident - cold.resident) <= 0.02 * warm.resident
