from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor

import harness.profiling.latency.timers as timers
from harness.models.batch import Batch
from harness.profiling.latency.paired import groups_of_batches
from harness.profiling.latency.timers import (
    SHORTEST_SAMPLE_S,
    Disturbance,
    PassTimer,
    steady_process,
    time_on_cuda,
)
from harness.runtimes import Executable

linux = pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="needs Linux's scheduler statistics"
)


class Booked:
    """Scheduler statistics that a test sets, in the files and format of Linux."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tasks, self.stat = folder / "task", folder / "stat"
        self.tasks.mkdir()
        monkeypatch.setattr(timers, "_TASKS", self.tasks)
        monkeypatch.setattr(timers, "_STAT", self.stat)
        self.waited(1, 0)
        self.stolen(0)

    def waited(self, thread: int, nanoseconds: int) -> None:
        (self.tasks / str(thread)).mkdir(exist_ok=True)
        (self.tasks / str(thread) / "schedstat").write_text(f"123456789 {nanoseconds} 42\n")

    def stolen(self, ticks: int) -> None:
        self.stat.write_text(f"cpu  10 20 30 40 50 60 70 {ticks} 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n")


@pytest.fixture
def booked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Booked:
    return Booked(tmp_path, monkeypatch)


def test_waiting_beyond_four_per_cent_disturbs(booked: Booked) -> None:
    watch = Disturbance()
    booked.waited(1, 3_900_000)
    assert not watch.disturbed(0.1)
    booked.waited(1, 4_100_000)
    assert watch.disturbed(0.1)
    watch.start()
    assert not watch.disturbed(0.1)


def test_waits_of_all_threads_add_up_new_ones_included(booked: Booked) -> None:
    watch = Disturbance()
    booked.waited(1, 2_500_000)
    assert not watch.disturbed(0.1)
    booked.waited(2, 2_500_000)
    assert watch.disturbed(0.1)


def test_what_the_host_keeps_disturbs(booked: Booked) -> None:
    watch = Disturbance()
    booked.stolen(1)
    assert watch.disturbed(0.1)
    assert not watch.disturbed(10.0)


def test_involuntary_switches_stand_in_where_waits_are_not_booked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timers, "_TASKS", tmp_path / "absent")
    monkeypatch.setattr(timers, "_STAT", tmp_path / "absent too")
    switches = iter((1000, 1010, 1012))
    monkeypatch.setattr(timers, "_involuntary_switches", lambda: next(switches))
    watch = Disturbance()
    assert not watch.disturbed(0.1)
    assert watch.disturbed(0.1)


@linux
def test_real_waits_are_seen() -> None:
    """Two other processes compute on this thread's only processor, so it must wait for them."""
    import os

    cpu = min(os.sched_getaffinity(0))
    busy = f"import os; os.sched_setaffinity(0, {{{cpu}}})\nprint(flush=True)\nwhile True: pass"
    others = [subprocess.Popen([sys.executable, "-c", busy], stdout=subprocess.PIPE) for _ in range(2)]
    seen: list[bool] = []

    def compute() -> None:
        os.sched_setaffinity(0, {cpu})
        watch, began = Disturbance(), time.perf_counter()
        while time.perf_counter() - began < 0.3:
            pass
        seen.append(watch.disturbed(time.perf_counter() - began))

    try:
        for other in others:
            assert other.stdout is not None
            other.stdout.readline()
        thread = threading.Thread(target=compute)
        thread.start()
        thread.join()
    finally:
        for other in others:
            other.kill()
            other.communicate()
    assert seen == [True]


class Recorder:
    """An executable that records its inputs and takes a given time."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.seen = seconds, list[int]()

    def __call__(self, batch: Batch) -> Tensor:
        self.seen.append(int(batch.input_ids[0, 0]))
        end = time.perf_counter() + self.seconds
        while time.perf_counter() < end:
            pass
        return batch.input_ids


def batches(count: int) -> list[Batch]:
    rows = [torch.full((1, 2), number) for number in range(count)]
    return [Batch(row, torch.ones_like(row), torch.zeros_like(row)) for row in rows]


def test_inputs_take_turns_by_pair() -> None:
    slow, fast = Recorder(SHORTEST_SAMPLE_S), Recorder(SHORTEST_SAMPLE_S)
    inputs = batches(3)
    timer = PassTimer(
        {"baseline": Executable(slow), "candidate": Executable(fast)},
        {"baseline": inputs, "candidate": inputs},
    )
    for pair in range(5):
        timer("baseline", pair)
        timer("candidate", pair)
    assert slow.seen == fast.seen == [0, 1, 2, 0, 1]


def test_together_every_sample_has_all_inputs() -> None:
    slow, fast = Recorder(SHORTEST_SAMPLE_S), Recorder(SHORTEST_SAMPLE_S)
    inputs = batches(3)
    timer = PassTimer(
        {"baseline": Executable(slow), "candidate": Executable(fast)},
        {"baseline": inputs, "candidate": inputs},
        together=True,
    )
    for pair in range(2):
        timer("baseline", pair)
        sample = timer("candidate", pair)
    assert slow.seen == fast.seen == [0, 1, 2, 0, 1, 2]
    assert len(sample.calls) == 3
    assert sample.seconds == pytest.approx(sum(sample.calls) / 3)


def test_inputs_that_take_too_long_together_are_dealt_to_groups() -> None:
    slow, fast = Recorder(SHORTEST_SAMPLE_S), Recorder(SHORTEST_SAMPLE_S)
    inputs = batches(5)
    timer = PassTimer(
        {"baseline": Executable(slow), "candidate": Executable(fast)},
        {"baseline": inputs, "candidate": inputs},
        together=True,
        groups=2,
    )
    for pair in range(3):
        timer("baseline", pair)
        timer("candidate", pair)
    assert slow.seen == fast.seen == [0, 2, 4, 1, 3, 0, 2, 4]


@pytest.mark.parametrize(
    ("round_s", "left_s", "varies", "groups"),
    [
        (0.01, 1.0, False, 1),
        (0.1, 1.0, False, 5),
        (0.1, 1.0, True, 2),
        (9.0, 1.0, False, 8),
        (0.1, -1.0, True, 2),
    ],
)
def test_groups_are_as_few_as_the_time_allows(
    round_s: float, left_s: float, varies: bool, groups: int
) -> None:
    assert groups_of_batches(32, round_s, left_s, varies) == groups
    assert groups_of_batches(3, round_s, left_s, varies) == 1


def test_short_passes_are_repeated_within_a_sample() -> None:
    quick = Recorder(SHORTEST_SAMPLE_S / 10)
    inputs = batches(1)
    timer = PassTimer({"baseline": Executable(quick)}, {"baseline": inputs})
    assert len(timer("baseline", 0).calls) == 1
    sample = timer("baseline", 1)
    assert len(sample.calls) > 1
    assert len(quick.seen) == 1 + len(sample.calls)
    assert sample.seconds == pytest.approx(sum(sample.calls) / len(sample.calls))
    assert all(call >= quick.seconds for call in sample.calls)


def test_the_collector_rests_meanwhile_and_is_left_as_it_was() -> None:
    assert gc.isenabled()
    with steady_process():
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_events_wait_for_the_device() -> None:
    x = torch.randn(4096, 4096, device="cuda")
    batch = batches(1)[0].to("cuda")
    seconds = [time_on_cuda(Executable(lambda _: x @ x @ x), batch) for _ in range(5)]
    # 2 × 2 × 4096³ FLOPs take longer than the microseconds of a launch.
    assert min(seconds) > 1e-4
