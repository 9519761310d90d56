"""The table of realisation: the roofline beside the speedups, dashes where a record has no ceilings."""

from __future__ import annotations

from typing import Any

import pytest

from harness.common.errors import Code
from harness.records.schema import Ceilings, Component, Record
from leaderboard.survey.roofline import realisation_table
from leaderboard.tables.plain import to_markdown
from tests.support.board_records import profile
from tests.support.one_line_errors import refused
from tests.support.paired_latency import without_verdict

PARTS = [
    Component(
        name="embedding",
        params=1_000_000,
        flops=0,
        elementwise_flops=0,
        weight_bytes=4_000_000,
        activation_bytes=500_000,
        latency_ms=None,
    ),
    Component(
        name="ffn",
        params=10_000_000,
        flops=1_000_000_000,
        elementwise_flops=0,
        weight_bytes=7,
        activation_bytes=4_500_000,
        latency_ms=None,
    ),
]
"""In float32 it moves 0.5 + 40 MB of weights and 2 × 5 MB of activations: 50.5 MB."""


def held(record: Record, **ceilings: Any) -> Record:
    """The same record, taken beside ceilings."""
    assert record.profile is not None
    known = Ceilings(
        **{"matmul_flops": {"float32": 2e11}, "copy_bytes": 1e10, "executed": "float32", **ceilings}
    )
    changed = record.profile.model_copy(update={"components": PARTS, "ceilings": known})
    return record.model_copy(update={"profile": changed})


def half(**more: Any) -> Record:
    """Half the baseline's FLOPs, 1.8 times as fast: 10 / 1.8 ms."""
    return profile("layer-drop:drop=6", model="bert-base", flops=1_000_000_000, speedup=1.8, **more)


def test_bytes_intensity_and_share_from_the_record() -> None:
    (row,) = realisation_table([held(half())]).records()
    assert row["moved_mb"] == pytest.approx(50.5)
    assert row["intensity"] == pytest.approx(1e9 / 50.5e6)
    # Memory allows 1e10 × 19.8 = 1.98e11 FLOP/s, just less than the peak of 2e11; the pass does 1e9 in 10 / 1.8 ms.
    assert row["bound"] == "memory"
    assert row["attained_pct"] == pytest.approx(100 * 1.8e11 / (1e10 * 1e9 / 50.5e6))
    assert row["realised"] == pytest.approx(0.9)


def test_what_executes_in_int8_reads_fewer_bytes_under_another_peak() -> None:
    record = held(half(), matmul_flops={"float32": 2e11, "int8": 6e11}, executed="int8")
    (row,) = realisation_table([record]).records()
    assert row["moved_mb"] == pytest.approx(0.5 + 10 + 10)
    assert row["bound"] == "memory"
    assert row["attained_pct"] == pytest.approx(100 * 1.8e11 / (1e10 * 1e9 / 20.5e6))


def test_the_peak_bounds_where_memory_is_fast() -> None:
    (row,) = realisation_table([held(half(), copy_bytes=1e12)]).records()
    assert row["bound"] == "compute"
    assert row["attained_pct"] == pytest.approx(90.0)


def test_records_without_ceilings_show_a_dash() -> None:
    made = realisation_table([half(), held(half(runtime="compile"))])
    assert [row["attained_pct"] is None for row in made.records()] == [False, True]
    old = next(line for line in to_markdown(made).splitlines() if "eager" in line)
    assert old.count("–") == 4
    assert any(note.startswith("–") for note in made.notes)
    assert not any("roofline" in note for note in realisation_table([half()]).notes)


def test_the_baseline_stands_there_for_its_roofline_alone() -> None:
    base = profile("baseline", model="bert-base", speedup=1.0)
    assert len(realisation_table([base, half()]).lines) == 1
    rows = realisation_table([held(base), held(half())]).records()
    # What took longer for its FLOPs stands below.
    assert [row["flops_ratio"] for row in rows] == [1.0, 2.0]
    with refused(Code.NO_DATA, "skyline run realised-speed"):
        realisation_table([held(base)])


def test_rows_that_leave_early_have_no_roofline() -> None:
    record = held(half())
    assert record.profile is not None
    total = record.profile.total.model_copy(update={"mean_depth": 5.5})
    early = record.model_copy(update={"profile": record.profile.model_copy(update={"total": total})})
    (row,) = realisation_table([early]).records()
    assert (row["moved_mb"], row["attained_pct"]) == (None, None)
    assert row["realised"] == pytest.approx(0.9)


def test_a_profile_without_a_verdict_stands_last_and_says_so() -> None:
    wide = half(runtime="compile")
    assert wide.profile is not None
    latency = without_verdict(1.2, 2.2)
    wide = wide.model_copy(update={"profile": wide.profile.model_copy(update={"latency": latency})})
    rows = realisation_table([wide, half()]).records()
    assert [row["speedup"] for row in rows] == [1.8, "no verdict"]
    assert (rows[1]["low"], rows[1]["high"], rows[1]["realised"]) == (1.2, 2.2, None)
