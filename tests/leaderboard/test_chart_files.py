"""Charts as files: SVG in the reader's colour scheme, PNG, and the board's front from the command."""

from __future__ import annotations

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from harness.cli import main as cli
from harness.common.errors import Code
from leaderboard.boards.architecture import architecture_board
from leaderboard.boards.measured import measured_board
from leaderboard.boards.names import family_title
from leaderboard.site import chart_files
from leaderboard.site.charts import specification
from leaderboard.survey.breakdown_chart import contrast
from tests.support.board_records import CARDS, example_records, profile, rows_of
from tests.support.one_line_errors import refused

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def front() -> dict:
    board = measured_board(example_records(), cards=CARDS)
    return specification(board, board.chosen_axis, alone=True)


def test_the_ending_chooses_the_format(front: dict, tmp_path: Path) -> None:
    chart_files.write_chart(front, tmp_path / "chart.svg")
    chart_files.write_chart(front, tmp_path / "chart.png")
    assert ElementTree.parse(tmp_path / "chart.svg").getroot().tag == f"{SVG}svg"
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    with refused(Code.OUT_OF_RANGE, "chart.pdf", ".svg or .png"):
        chart_files.write_chart(front, tmp_path / "chart.pdf")
    assert {path.name for path in tmp_path.iterdir()} == {"chart.svg", "chart.png"}


def test_an_svg_is_readable_in_both_colour_schemes(front: dict, tmp_path: Path) -> None:
    chart_files.write_chart(front, tmp_path / "chart.svg")
    root = ElementTree.parse(tmp_path / "chart.svg").getroot()
    (style,), (paper,) = root.findall(f"{SVG}style"), root.findall(f"{SVG}rect")
    light, dark = str(style.text).split("@media (prefers-color-scheme:dark)")
    schemes = [
        (*re.findall(r"color:(#\w+)", light), paper.attrib["fill"]),
        (*re.findall(r"color:(#\w+)", dark), *re.findall(r"fill:(#\w+)", dark)),
    ]
    assert len(set(schemes)) == 2
    assert all(contrast(ink, ground) >= 7 for ink, ground in schemes)
    assert {text.attrib["fill"] for text in root.iter(f"{SVG}text")} == {"currentColor"}


def test_a_chart_outside_the_page_has_a_title_and_a_legend(front: dict, tmp_path: Path) -> None:
    board = measured_board(example_records(), cards=CARDS)
    chart_files.write_chart(front, tmp_path / "chart.svg")
    texts = [
        "".join(text.itertext()) for text in ElementTree.parse(tmp_path / "chart.svg").iter(f"{SVG}text")
    ]
    assert {board.title, *(family_title(row.family) for row in rows_of(board))} <= set(texts)
    assert any("1 of the 8 compared rows" in text for text in texts)  # random pruning lies below the floor
    assert "title" not in specification(board, board.chosen_axis)


def test_a_board_without_drops_has_no_front_to_draw() -> None:
    board = architecture_board([profile("baseline", model="bert-base")])
    with refused(Code.NO_DATA, board.title, "disk"):
        specification(board, board.chosen_axis)


def test_the_command_draws_the_front_of_the_axis(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, chart = tmp_path / "measured" / "test-2c", tmp_path / "front.svg"
    folder.mkdir(parents=True)
    for number, record in enumerate(example_records()):
        (folder / f"{number}.json").write_text(record.to_json(), encoding="utf-8")

    def skyline(kind: str, *more: str) -> tuple[int, str]:
        asked = ["board", kind, "--profiles", str(tmp_path), "--chart", str(chart), "--json", *more]
        monkeypatch.setattr(sys, "argv", ["skyline", *asked])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0), capsys.readouterr().err

    assert skyline("measured", "--axis", "latency-128-eager") == (0, f"wrote {chart}\n")
    drawn = chart.read_text(encoding="utf-8")
    assert "Latency, 128 tokens, eager (% of the baseline" in drawn
    assert "Size on disk" not in drawn
    assert skyline("measured", "--axis", "latency-128-eager", "--front")[0] == 0
    assert drawn.count("<path") > chart.read_text(encoding="utf-8").count("<path")
    status, errors = skyline("published", "--table", "movva2022-ratios")  # it prints no scores
    assert (status, errors.count("\n")) == (2, 1)
