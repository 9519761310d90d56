"""Boards in a terminal: its width is kept, the measurements stay, and what is hidden is said."""

from __future__ import annotations

import io
import itertools

import pytest
from rich.console import Console

from leaderboard.boards.architecture import architecture_board
from leaderboard.boards.measured import measured_board
from leaderboard.tables.board_table import board_table
from leaderboard.tables.terminal import FOLDED, TITLE_WIDTH, fit, print_table, width_of
from tests.support.board_records import (
    CARDS,
    PUBLISHED,
    card,
    example_records,
    failed,
    profile,
    published_board,
    quality,
)

CLAIMS = [{"task": task, "value": value} for task, value in (("sst2", 91.2), ("mnli", 83.4))]


def printed(board, width=200):
    stream = io.StringIO()
    print_table(board_table(board), Console(file=stream, width=width))
    return stream.getvalue()


def measured():
    return measured_board(example_records(), cards=CARDS)


def architecture():
    cards = {"magnitude": card("Magnitude pruning", "unstructured-pruning", (), CLAIMS)}
    recipes = ("baseline", "magnitude", "dynamic-int8", "kd-logits:layers=6 > dynamic-int8")
    return architecture_board([profile(r, model="bert-base", speedup=1.5) for r in recipes], cards=cards)


BOARDS = {
    "measured": measured,
    "architecture": architecture,
    **{table: lambda table=table: published_board(table=table) for table in PUBLISHED},
}


def keys(board, width):
    return [column.key for column in fit(board_table(board), width).columns]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 250])
@pytest.mark.parametrize("name", BOARDS)
def test_a_terminal_keeps_its_width_and_cuts_no_figure(name, width):
    board = BOARDS[name]()
    text = printed(board, width)
    assert all(len(line) <= width for line in text.splitlines())
    assert "…" not in text
    fitted = fit(board_table(board), width)
    for line in fitted.lines:
        cells = zip(fitted.columns, line.cells, strict=True)
        assert all(cell.text in text for column, cell in cells if column.key not in FOLDED)


@pytest.mark.parametrize(
    ("name", "measurements"),
    [
        ("measured", ["drop", "score_sst2", "score_mrpc", "size", "flops", "speedup"]),
        ("architecture", ["disk_bytes", "flops", "speedup", "peak_memory_bytes"]),
        (
            "ganesh2021",
            ["drop", *(f"score_{t}" for t in ("mnli", "qqp", "sst2", "squad")), "speedup", "size_pct"],
        ),
        ("gordon2020", ["drop", *(f"score_{t}" for t in ("mnli", "qqp", "qnli", "sst2", "cola")), "kept"]),
        ("movva2022", ["drop", "score_glue", "disk_bytes"]),
        ("movva2022-ratios", ["disk_bytes", "disk_pct"]),
        ("lilbobby", ["drop", "score_sst2", "score_qqp", "score_mnli", "disk_bytes"]),
    ],
)
def test_the_measurements_stay_in_80_characters(name, measurements):
    assert set(measurements) <= set(keys(BOARDS[name](), 80))


def test_what_is_hidden_is_said_with_the_width_that_shows_it():
    board = architecture()
    line = next(line for line in " ".join(printed(board, 80).split()).split("· ") if "hidden" in line)
    assert "SST-2 (points, as published); MNLI (points, as published)" in line
    assert "--csv and --json" in line
    assert "Disk" not in line
    whole = board_table(board)
    assert f"A terminal of {width_of(whole)} shows them" in line
    assert "hidden in" not in printed(board, width_of(whole))
    assert "hidden in" in printed(board, width_of(whole) - 1)
    for column in whole.columns:
        assert column.heading.split()[0] in printed(board, width_of(whole))


def test_less_important_columns_go_first():
    board, widths = measured(), range(TITLE_WIDTH, 260)
    order = []
    for width in reversed(widths):
        gone = {c.key for c in board_table(board).columns} - set(keys(board, width))
        order += [key for key in gone if key not in order]
    position = order.index
    assert position("family") < position("tasks") < position("pareto") < position("rank")
    assert position("rank") < position("flags") < position("score_mrpc") < position("score_sst2")
    assert position("score_sst2") < position("peak_memory_bytes") < position("speedup") < position("size")
    for narrow, wide in itertools.pairwise(widths):
        assert set(keys(board, narrow)) <= set(keys(board, wide))


def test_the_front_is_marked_before_the_name_where_its_column_is_hidden():
    board = measured()
    text = printed(board, 80)
    assert "◆ Dynamic int8" in text
    assert "Front" in text[text.index("hidden in") : text.index("A terminal of")]
    assert text.count("◆ ") == sum(map(board.on_front, board.rows))
    assert "◆ Dynamic int8" not in printed(board, 250)


def test_without_intervals_marks_stay():
    board = measured()
    assert "1.62× [1.58, 1.66]" in printed(board, 250)
    text = printed(board, 80)
    assert "[" not in text.split("hidden in")[0]
    assert "100.0†" in text
    assert "the intervals" in " ".join(text.split())


def test_markup_is_taken_as_text():
    cards = {"magnitude": card("[bold red]x[/] [/nothing]", "unstructured-pruning")}
    records = [quality("baseline", "sst2", 90.0), quality("magnitude", "sst2", 89.0)]
    assert "[bold red]x[/] [/nothing]" in printed(measured_board(records, cards=cards))


def test_huge_names_fold():
    records = [quality("baseline", "sst2", 90.0), quality("m" * 400, "sst2", 89.0)]
    text = printed(measured_board(records), 100)
    assert all(len(line) <= 100 for line in text.splitlines())
    assert text.count("m") >= 400


def test_missing_figures_are_dashes():
    text = printed(measured_board([failed("magnitude", "sst2"), failed("kd-logits", "mrpc")]))
    assert "None" not in text
    assert "nan" not in text.lower().replace("not a number", "")
