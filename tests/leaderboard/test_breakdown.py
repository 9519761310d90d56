"""Costs by component: shares of the whole, closed forms of BERT-base, the chart and the command."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli import main as cli
from harness.common.errors import Code
from harness.records.schema import Component, Record, Workload
from leaderboard.boards.architecture import architecture_board
from leaderboard.site.page import render_page
from leaderboard.survey.breakdown import (
    COMPONENT_TITLES,
    RESIDUAL_TITLE,
    SOURCE,
    breakdown_of,
    breakdown_table,
)
from leaderboard.survey.breakdown_chart import COLOURS, contrast, ink_on, specification
from leaderboard.tables.plain import to_markdown
from tests.support.board_records import profile
from tests.support.one_line_errors import refused

N, H, F, LAYERS = 256, 768, 3072, 12
FLOPS = {
    "embedding": 0,
    "attention_in": 2 * N * 3 * H * H * LAYERS,
    "attention": 2 * 2 * N * N * H * LAYERS,
    "attention_out": 2 * N * H * H * LAYERS,
    "ffn": 2 * N * 2 * H * F * LAYERS,
    "head": 2 * (H * H + 2 * H),
}
"""Of one pass of BERT-base: MACs = n(4HP + 2HF) + 2n²P a layer, twice."""
PARAMS = {
    "embedding": (30522 + 512 + 2 + 2) * H,
    "attention_in": 3 * (H * H + H) * LAYERS,
    "attention": 0,
    "attention_out": (H * H + 3 * H) * LAYERS,
    "ffn": (2 * H * F + F + 3 * H) * LAYERS,
    "head": H * H + H + 2 * H + 2,
}
SURVEYED = Workload(batch=1, length=256)


def part(name: str, ms: float | None, activations: int = 1_000_000) -> Component:
    return Component(
        name=name,
        params=PARAMS[name],
        flops=FLOPS[name],
        elementwise_flops=0,
        weight_bytes=4 * PARAMS[name],
        activation_bytes=activations,
        latency_ms=ms,
    )


def baseline(
    *, ms: tuple[float | None, ...] = (1.0, 20.0, 10.0, 8.0, 60.0, 0.5), whole: float = 100.0, **more: Any
) -> Record:
    """A profile of BERT-base at the survey's workload."""
    asked: dict[str, Any] = {"model": "bert-base", "workload": SURVEYED, **more}
    record = profile("baseline", **asked)
    assert record.profile is not None
    parts = [part(name, time) for name, time in zip(FLOPS, ms, strict=True)]
    total = record.profile.total.model_copy(
        update={
            "params": sum(PARAMS.values()),
            "flops": sum(FLOPS.values()),
            "weight_bytes": sum(p.weight_bytes for p in parts),
            "activation_bytes": sum(p.activation_bytes for p in parts),
            "latency_ms": whole,
        }
    )
    changed = record.profile.model_copy(update={"components": parts, "total": total})
    return record.model_copy(update={"profile": changed})


def test_the_closed_form_is_bert_bases() -> None:
    assert sum(PARAMS.values()) == 109_482_240 + 2 * H + 2
    assert sum(FLOPS.values()) == pytest.approx(45.90e9, rel=1e-3)
    rows = {row["component"]: row for row in breakdown_table(breakdown_of([baseline()])).records()}
    assert rows["Embedding layer"]["size_mb"] == pytest.approx(4 * 23_837_184 / 1e6)
    assert rows["Feed-forward sub-units"]["gflops"] == pytest.approx(28.99, abs=0.01)
    assert rows["Multi-head attention"]["memory_mb"] == pytest.approx(1.0)
    assert rows["Linear layers before attention"]["memory_mb"] == pytest.approx(85.045248 + 1)
    assert rows[RESIDUAL_TITLE]["cpu_ms"] == pytest.approx(0.5)
    assert rows[RESIDUAL_TITLE]["size_mb"] is None


@given(
    ms=st.tuples(*[st.floats(0.01, 50)] * 6),
    whole=st.floats(1, 400),
)
def test_shares_sum_to_the_whole(ms: tuple[float, ...], whole: float) -> None:
    rows = breakdown_table(breakdown_of([baseline(ms=ms, whole=whole)])).records()
    parts, total = rows[:7], rows[7]
    assert total["component"] == "Whole model"
    for cost in ("size", "flops", "memory", "cpu"):
        shares = [float(row[f"{cost}_pct"] or 0) for row in parts]
        assert sum(shares) == pytest.approx(100)
    assert sum(float(row["cpu_ms"] or 0) for row in parts) == pytest.approx(whole)
    assert sum(float(row["gflops"] or 0) for row in parts) == pytest.approx(total["gflops"])


def test_the_published_totals_stand_beside_what_was_measured() -> None:
    made = breakdown_table(breakdown_of([baseline()]))
    theirs = made.records()[-1]
    assert SOURCE in str(theirs["component"])
    assert (theirs["cpu_ms"], theirs["cuda_ms"]) == (750.9, 57.1)
    assert all(row["cuda_ms"] is None for row in made.records()[:-1])
    assert "CUDA: not measured here" in made.notes


def test_a_cuda_record_has_columns_of_its_own() -> None:
    made = breakdown_table(breakdown_of([baseline(), baseline(device="cuda:1", whole=10.0, ms=(1.0,) * 6)]))
    rows = {row["component"]: row for row in made.records()}
    assert (rows["Whole model"]["cpu_ms"], rows["Whole model"]["cuda_ms"]) == (100.0, 10.0)
    assert rows["Pooler and classifier"]["cuda_pct"] == pytest.approx(10.0)
    assert not any("not measured" in note for note in made.notes)


def test_at_another_size_nothing_published_stands_beside() -> None:
    other = Workload(batch=1, length=128)
    made = breakdown_table(breakdown_of([baseline(workload=other)], workload=other))
    assert not any(SOURCE in text for text in [*made.notes, *(line.cells[0].text for line in made.lines)])


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(baseline(workload=Workload(batch=8, length=256)), id="another workload"),
        pytest.param(baseline(runtime="openvino", ms=(None,) * 6), id="a runtime that hides components"),
        pytest.param(baseline(model="bert-tiny"), id="another model"),
        pytest.param(profile("baseline", model="bert-base", workload=SURVEYED), id="no components"),
    ],
)
def test_what_cannot_be_broken_down(record: Record) -> None:
    with refused(Code.NO_DATA, "bert-base", "(1, 256)"):
        breakdown_of([record])


def test_the_chart_draws_every_share() -> None:
    made = breakdown_of([baseline()])
    drawn = specification(made)
    segments = next(iter(drawn["datasets"].values())) if "datasets" in drawn else drawn["data"]["values"]
    for cost in made.costs:
        own = [s for s in segments if s["bar"].startswith(f"{cost.title}:")]
        assert own[-1]["end"] == pytest.approx(100)
        assert all(a["end"] == b["start"] for a, b in itertools.pairwise(own))
    assert {s["part"] for s in segments} == {*COMPONENT_TITLES.values(), RESIDUAL_TITLE}


def test_a_pass_shorter_than_its_parts_gets_a_longer_bar() -> None:
    drawn = specification(breakdown_of([baseline(whole=90.0)]))
    assert RESIDUAL_TITLE not in json.dumps(drawn)
    domain = drawn["layer"][0]["encoding"]["x"]["scale"]["domain"]
    assert domain[1] == pytest.approx(100 * 99.5 / 90)


def test_figures_in_the_bars_can_be_read() -> None:
    assert contrast("#000000", "#FFFFFF") == pytest.approx(21)
    for colour in COLOURS.values():
        assert contrast(ink_on(colour), colour) >= 4.5


def test_the_page_shows_it_with_the_architectures() -> None:
    records = [baseline()]
    board, made = architecture_board(records), breakdown_of(records)
    page = render_page([board], costs=made)
    assert "Feed-forward sub-units" in page
    assert "Feed-forward sub-units" not in render_page([board])
    assert page.count('scope="row" class="text stick">Whole model') == 2


def test_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "measured" / "test-2c"
    folder.mkdir(parents=True)
    (folder / "one.json").write_text(baseline().to_json(), encoding="utf-8")
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- board:breakdown -->\n<!-- /board:breakdown -->\nb\n", encoding="utf-8")
    chart = tmp_path / "chart.svg"

    def skyline(*more: str, table: str = "breakdown") -> tuple[int, str, str]:
        asked = ["board", "architecture", "--table", table, "--profiles", str(tmp_path), *more]
        monkeypatch.setattr(sys, "argv", ["skyline", *asked])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return (int(stopped.value.code or 0), *capsys.readouterr())

    assert skyline("--readme", str(readme), "--chart", str(chart)) == (0, "", f"wrote {chart}\n")
    assert chart.exists()
    made = breakdown_table(breakdown_of([baseline()]))
    assert to_markdown(made).strip() in readme.read_text(encoding="utf-8")
    status, out, _ = skyline("--json")
    assert (status, json.loads(out)["rows"]) == (0, made.records())
    for options, hint in (
        (("--chart", "a.pdf"), ".svg or .png"),
        (("--model", "bert-tiny"), "--model"),
    ):
        status, out, errors = skyline(*options)
        assert (status, out, errors.count("\n")) == (2, "", 1)
        assert hint in errors
    status, _, errors = skyline("--chart", str(chart), table="sizes")
    assert (status, "--chart" in errors) == (2, True)
