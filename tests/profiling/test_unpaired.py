"""Unpaired timing: the ratio of the means of separate processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.common.processes import run_isolated
from harness.models.artifacts import save_artifact
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.profiling.inputs import Inputs, make_workload
from harness.profiling.latency import unpaired
from harness.profiling.latency.unpaired import Unpaired, measure_unpaired
from harness.runtimes import Executable, Execution

INPUTS = Inputs.of(make_workload(length=16, batch=2))


def saved(layers: int, vocab_size: int, folder: Path) -> Execution:
    config = EncoderConfig.bert(layers, 16, heads=2, vocab_size=vocab_size, positions=16)
    save_artifact(Encoder(config).initialize(torch.Generator().manual_seed(0)), folder)
    return Execution(folder)


def test_the_speedup_is_the_ratio_of_the_means() -> None:
    assert Unpaired(baseline_s=0.3, candidate_s=0.1).speedup == pytest.approx(3.0)


def test_each_side_runs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    baseline, candidate = saved(2, 50, tmp_path / "baseline"), saved(1, 40, tmp_path / "candidate")
    asked: list[tuple[Execution, int, int, int]] = []

    def instead(function, execution, inputs, vocab_size, passes, warmup):
        asked.append((execution, vocab_size, passes, warmup))
        return run_isolated(function, execution, inputs, vocab_size, passes, warmup)

    monkeypatch.setattr(unpaired, "run_isolated", instead)
    found = measure_unpaired(candidate, baseline, INPUTS, passes=3, warmup=2)
    # Both read the same ids, below the smaller vocabulary's size.
    assert asked == [(baseline, 40, 3, 2), (candidate, 40, 3, 2)]
    assert found.baseline_s > 0
    assert found.candidate_s > 0


def test_the_mean_is_of_the_passes_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    monkeypatch.setattr(unpaired, "load", lambda execution: Executable(lambda batch: runs.append(batch)))

    def time_pass(run, batch):
        run(batch)
        return float(len(runs))

    monkeypatch.setattr(unpaired, "time_on_cpu", time_pass)
    monkeypatch.setattr("harness.profiling.latency.timers._keep_freed_memory", lambda: None)
    # Pass number n takes n seconds, and passes 5, 6 and 7 are timed.
    assert unpaired._mean_seconds(Execution(Path()), INPUTS, 40, passes=3, warmup=4) == pytest.approx(6.0)
    assert len(runs) == 7
