from __future__ import annotations

import json
import os
import subprocess
import sys

import psutil
import pytest

from harness.profiling.latency.noise import busy_process, summary
from harness.records.schema import Latency
from tests.support.paired_latency import paired_latency, without_verdict


def aa_run(ratio: float | None, low: float, high: float) -> Latency:
    return (
        without_verdict(low, high)
        if ratio is None
        else paired_latency(speedup=ratio, speedup_ci95=(low, high))
    )


def test_summary() -> None:
    found = summary(
        [aa_run(1.0, 0.99, 1.01), aa_run(1.03, 1.01, 1.05), aa_run(0.99, 0.96, 1.02), aa_run(None, 0.5, 2.0)]
    )
    assert found == {
        "runs": 4,
        "no_verdict": 1,
        "holds_one": 3,
        "worst_ratio_pct": pytest.approx(3.0),
        "median_half_width_pct": pytest.approx((2 / 1.03 + 3 / 0.99) / 2),
        "worst_half_width_pct": pytest.approx(60),
    }


def test_summary_without_a_verdict() -> None:
    found = summary([aa_run(None, 0.5, 2.0)])
    assert (found["no_verdict"], found["holds_one"], found["worst_ratio_pct"]) == (1, 1, None)


def test_the_busy_process_ends_with_its_block() -> None:
    with busy_process(0.5, 20):
        (child,) = [p for p in psutil.Process().children() if "spawn_main" in " ".join(p.cmdline())]
        assert child.is_running()
    assert not child.is_running()


def test_no_load_starts_no_process() -> None:
    before = psutil.Process().children()
    with busy_process(0, 20):
        assert psutil.Process().children() == before


def test_command_prints_one_json_object() -> None:
    command = [
        sys.executable,
        "-m",
        "harness.profiling.latency.noise",
        "--runs",
        "1",
        "--model",
        "tiny",
        "--length",
        "8",
    ]
    done = subprocess.run(
        [*command, "--cap", "0.3", "--json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    data = json.loads(done.stdout)
    assert len(data["runs"]) == data["summary"]["runs"] == 1
    assert data["hardware"]["id"]
    assert done.stderr == ""


def test_bad_input_is_one_line() -> None:
    command = [sys.executable, "-m", "harness.profiling.latency.noise", "--runs", "1", "--model", "tiny"]
    for extra, message in ((["--length", "0"], "use at least 1"), (["--length", "600"], "use at most 512")):
        done = subprocess.run([*command, *extra], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
