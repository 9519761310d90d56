"""Boards as text."""

from __future__ import annotations

import csv
import io
import json

import pytest

from harness.common.errors import Code
from harness.records.schema import Workload
from leaderboard.boards.architecture import architecture_board
from leaderboard.boards.declaration import Declaration
from leaderboard.boards.measured import measured_board
from leaderboard.tables import formatting
from leaderboard.tables.plain import escape_markdown, update_readme
from leaderboard.tables.printing import to_csv, to_json, to_markdown
from tests.support.board_records import (
    CARDS,
    card,
    example_records,
    facts,
    failed,
    profile,
    published_board,
    quality,
    rows_of,
)
from tests.support.one_line_errors import refused


def markdown_rows(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:])]


def test_markdown_shows_rank_front_intervals_tasks_and_seeds():
    text = to_markdown(measured_board(example_records(), cards=CARDS))
    ranked, _, incomplete = text.partition("\nIncomplete: ")
    head, *body = markdown_rows(ranked)
    assert head[:4] == ["Rank", "Method", "Drop (points)", "Front"]
    rows = {line[1].strip("*"): dict(zip(head, line, strict=True)) for line in body}
    assert len(rows) == 8
    int8 = rows["Dynamic int8"]
    assert int8["Rank"] == "1–3"
    assert int8["Front"].startswith("◆")
    assert int8["Drop (points)"].startswith("−0.45 [−")
    assert int8["Tasks × seeds"] == "2 × 1–3"
    assert int8["SST-2"].startswith("90.6 ± ")
    assert int8["Size (%)"] == "63.9"
    assert int8["Speedup, 128 tokens"].startswith("1.62× [1.58, ")
    assert rows["Random pruning (sparsity=0.6)"]["Rank"] == "8"
    assert rows["Random pruning (sparsity=0.6)"]["Flags"] == "control"
    pruned = rows["Magnitude pruning (sparsity=0.6)"]
    assert pruned["FLOPs, 128 tokens (%)"].endswith("†")
    assert pruned["Memory, 128 tokens (%)"].endswith("≈")
    assert "**Dynamic int8**" in text
    assert "the loss is not a number" in text
    head, line = markdown_rows(incomplete)
    assert {"Rank", "Front", "Drop (points)"} & set(head) == set()
    assert line[0].startswith("Distillation from logits (layers=3) +")


def test_a_flag_of_every_row_is_said_once():
    text = to_markdown(measured_board(example_records(), cards=CARDS))
    assert "- every ranked row: one seed: SST-2; stale" in text
    assert text.split("Incomplete")[0].count("stale") == 0


def test_hostile_text_stays_text_in_markdown():
    title = "a|b <script>alert(1)</script> [x](javascript:y) `c`\nd **e**"
    cards = {"magnitude": card(title, "unstructured-pruning")}
    records = [quality("baseline", "sst2", 90.0), quality("magnitude", "sst2", 89.0)]
    text = to_markdown(measured_board(records, cards=cards))
    assert "<script" not in text
    line = next(line for line in text.splitlines() if "alert" in line and line.startswith("|"))
    assert line.replace("\\|", "").count("|") == text.splitlines()[0].count("|")
    assert escape_markdown("[x](y)|*`_<") == "\\[x\\](y)\\|\\*\\`\\_&lt;"


def test_missing_figures_are_dashes_everywhere():
    records = [failed("magnitude", "sst2"), failed("kd-logits", "mrpc")]
    board = measured_board(records)
    text = to_markdown(board)
    assert "None" not in text
    assert "nan" not in text.lower().replace("not a number", "")
    line = next(csv.DictReader(io.StringIO(to_csv(board))))
    assert line["drop"] == line["disk_bytes"] == line["speedup"] == ""


def test_csv_is_unrounded_and_reads_back():
    board = measured_board(example_records(), cards=CARDS)
    lines = list(csv.DictReader(io.StringIO(to_csv(board))))
    assert [line["id"] for line in lines] == [row.id for row in board.rows]
    for line, row in zip(lines, rows_of(board), strict=True):
        assert (float(line["drop"]) if line["drop"] else None) == row.drop
        assert [line["rank_best"], line["rank_worst"]] == [str(each) for each in row.rank or ("", "")]
        assert line["section"] == row.section
        assert line["state_flops-128"] == row.ratios["flops-128"]["state"]
        assert line["flags"].split() == [flag["code"] for flag in row.flags]
        assert line["disk_bytes"] == str(row.disk_bytes)
        assert (float(line["score_mrpc"]) if line["score_mrpc"] else None) == row.scores.get("mrpc")
    assert [line["section"] for line in lines] == ["ranked"] * 8 + ["incomplete"]


def test_csv_has_published_scores_and_kept_weights():
    cards = {"magnitude": card("M", "x", (), [{"task": "sst2", "value": 91.2}])}
    board = architecture_board(
        [profile(r, model="bert-base") for r in ("baseline", "magnitude")], cards=cards
    )
    lines = csv.DictReader(io.StringIO(to_csv(board)))
    assert [line["claimed_sst2"] for line in lines] == ["", "91.2"]
    lines = list(csv.DictReader(io.StringIO(to_csv(published_board(table="gordon2020")))))
    assert [float(line["weights_kept_pct"]) for line in lines[:3]] == [100, 90, 80]


def test_json_is_the_boards():
    board = published_board()
    assert json.loads(to_json(board))["rows"][5]["drop_published"] == -4.73


def test_architecture_tables_show_claims_and_no_front():
    cards = {"magnitude": card("Magnitude", "unstructured-pruning", (), [{"task": "sst2", "value": 91.2}])}
    board = architecture_board(
        [profile(r, model="bert-base") for r in ("baseline", "magnitude")], cards=cards
    )
    head, _, line = markdown_rows(to_markdown(board))
    cells_ = dict(zip(head, line, strict=True))
    assert cells_["SST-2 (points, as published)"] == "91.2"
    assert "Front" not in head
    assert "Rank" not in head
    assert "Drop (points)" not in head
    assert "- Magnitude: as published: SST-2 91.2 on an unknown split" in to_markdown(board)


def test_readme_is_updated_between_its_markers(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(
        "a\n<!-- board:main -->\nold\n<!-- /board:main -->\nb <!-- board:x --><!-- /board:x -->\n"
    )
    update_readme(path, "main", "| new |\n")
    update_readme(path, "main", "| newer |\n")
    expected = (
        "a\n<!-- board:main -->\n\n| newer |\n\n<!-- /board:main -->\nb <!-- board:x --><!-- /board:x -->\n"
    )
    assert path.read_text() == expected


@pytest.mark.parametrize(
    "text", ["", "<!-- board:m -->", "<!-- /board:m --><!-- board:m -->", "<!-- board:m -->" * 2]
)
def test_a_readme_without_markers_is_an_error_and_stays(tmp_path, text):
    path = tmp_path / "README.md"
    path.write_text(text)
    with refused(Code.INCOMPLETE, "<!-- board:m -->", "<!-- /board:m -->"):
        update_readme(path, "m", "x")
    assert path.read_text() == text
    with refused(Code.UNREADABLE, "none.md"):
        update_readme(tmp_path / "none.md", "m", "x")


@pytest.mark.parametrize(
    ("value", "decimals", "text"),
    [(None, 2, "–"), (-0.625, 2, "−0.63"), (-0.001, 2, "0.00"), (1234.5, 1, "1,234.5"), (2.5, 0, "3")],
)
def test_numbers(value, decimals, text):
    assert formatting.number(value, decimals) == text


def test_bytes_and_flops_have_units_of_ten():
    assert formatting.megabytes(58_123_456) == "58.1"
    assert formatting.megabytes(1_234_567) == "1.23"
    assert formatting.gigaflops(2_764_000_000) == "2.76"
    assert formatting.megabytes(None) == formatting.gigaflops(None) == "–"


def test_a_flag_that_no_cell_shows_stands_among_the_flags():
    """The columns show the main axes: no parameters, and of several workloads and runtimes the first."""
    cards = {"a": card("A", "x", ("parameters", "latency"))}
    real = Workload(batch=1, length=128, inputs="real")
    held = facts("hash-a-minilm-l6-sst2-0")
    records = [
        quality("baseline", "sst2", 90.0),
        quality("a", "sst2", 89.0),
        profile("a", artifact=held, workload=real, realised={"parameters": False}),
        profile("a", artifact=held, speedup=None),
    ]
    declared = Declaration(title="T", model="minilm-l6", tasks=("sst2",), workloads=(real, Workload()))
    board = measured_board(records, declared, cards=cards)
    (row,) = (row for row in board.rows if row.recipe == "a")
    assert {"simulated:parameters", "no-verdict"} <= {flag.code for flag in row.flags}
    said = next(line[-1] for line in markdown_rows(to_markdown(board)) if "A" in line)
    assert "simulated: parameters" in said
    assert "no verdict on a latency" in said
