"""The page as text: structure, safety, contrast. What needs a browser is in test_page_browser.py."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.compression.card import FAMILIES
from leaderboard.boards.measured import measured_board
from leaderboard.site import page
from leaderboard.site.charts import floor, lowest, specification
from leaderboard.site.marks import MARKS, OTHER, mark
from leaderboard.site.page import render_page
from tests.support.board_records import (
    CARDS,
    PUBLISHED,
    card,
    example_page,
    example_records,
    failed,
    published_board,
    quality,
    rows_of,
)

TEMPLATES = Path(page.__file__).parent / "templates"


class Parsed(HTMLParser):
    """All tags with their attributes, and the text of each."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def html() -> str:
    return example_page()


@pytest.fixture(scope="module")
def parsed(html) -> Parsed:
    return Parsed(html)


def test_nothing_is_fetched(html, parsed):
    for _, attrs in parsed.tags:
        for name in ("src", "href", "srcset", "action", "data"):
            value = attrs.get(name) or "#"
            assert value.startswith("#"), (name, value)
    assert not parsed.all("link")
    assert "@import" not in html
    assert not re.search(r"url\(\s*['\"]?https?:", html)
    policy = next(a["content"] for a in parsed.all("meta") if a.get("http-equiv"))
    assert "default-src 'none'" in policy
    assert "connect-src" not in policy


def test_structure_is_accessible(parsed):
    assert parsed.all("html")[0]["lang"] == "en"
    assert len(parsed.all("h1")) == len(parsed.all("main")) == 1
    levels = [int(tag[1]) for tag, _ in parsed.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
    identities = [attrs["id"] for _, attrs in parsed.tags if attrs.get("id")]
    assert len(identities) == len(set(identities))
    targets = {a["href"][1:] for a in parsed.all("a") if a.get("href")}
    assert targets <= set(identities)
    for attrs in (a for _, a in parsed.tags if a.get("aria-labelledby")):
        assert attrs["aria-labelledby"] in identities
    assert all(attrs.get("scope") in ("col", "row") for attrs in parsed.all("th"))
    assert len(parsed.all("caption")) == len(parsed.all("table"))


def test_both_boards_the_ledger_and_the_provenance_are_there(parsed):
    text = " ".join(" ".join(parsed.words).split())
    for words in (
        "Magnitude pruning (sparsity=0.4)",
        "AdaBERT (Chen et al. 2020a)",
        "23 of 25",
        "differs by −0.33",
        "Test processor, 2 cores, 8 GiB",
        "torch 2.0",
        "simulated: FLOPs",
        "the loss is not a number",
        "Hypervolume",
    ):
        assert words in text, words
    assert len(parsed.all("svg")) > 2  # the charts are there without scripts


def test_every_published_table_has_a_section_of_its_own(html, parsed):
    sections = {a["id"] for a in parsed.all("section") if "data-board" in a}
    assert sections == {"measured", *(f"published-{table}" for table in PUBLISHED)}
    links = {a["href"] for a in parsed.all("a")}
    assert {f"#{section}" for section in sections} <= links
    for table in PUBLISHED:
        board = published_board(table=table)
        assert f"As published: {board.label}" in html
        for row in board.rows:
            assert f'data-id="{row.id}"' in html
    assert len({published_board(table=table).label for table in PUBLISHED}) == len(PUBLISHED)


def test_one_published_table_needs_no_name_of_its_own():
    page = Parsed(render_page([published_board(table="movva2022")]))
    assert [a["id"] for a in page.all("section") if "data-board" in a] == ["published"]


def test_hostile_text_stays_text():
    evil = "</script><script>window.pwned=1</script><img src=x onerror=pwned()>\"'"
    cards = {"magnitude": card(evil, evil)}
    records = [quality("baseline", "sst2", 90.0), quality("magnitude", "sst2", 89.0)]
    records.append(failed("kd-logits", "sst2", reason=evil))
    page = render_page([measured_board(records, cards=cards)])
    assert "<script>window.pwned" not in page
    assert "<img src=x" not in page
    assert Parsed(page).all("script")[0].get("type") == "application/json"
    assert not any("onerror" in attrs for _, attrs in Parsed(page).tags)


def test_missing_figures_and_an_empty_page_render():
    page = render_page([measured_board([failed("magnitude", "sst2")])])
    words = " ".join(Parsed(page).words)
    assert "None" not in words
    assert "1 failed" in words
    assert "<h1>" in render_page([])


def test_every_family_has_a_colour_and_a_shape_of_its_own():
    assert set(FAMILIES) <= set(MARKS)
    pairs = [(mark.colour, mark.path) for mark in (*MARKS.values(), OTHER)]
    assert len(set(pairs)) == len(pairs)
    shapes = [mark(family).path for family in FAMILIES]
    assert len(set(shapes)) == len(shapes)
    colours = [mark(family).colour for family in FAMILIES]
    assert len(set(colours)) == len(colours)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_contrast_is_at_least_4_5_in_both_schemes():
    style = (TEMPLATES / "page.css").read_text(encoding="utf-8")
    schemes = [
        dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", style, re.S)
    ]
    assert len(schemes) == 2
    for colours in schemes:
        for ink, ground in (
            *((ink, ground) for ink in ("ink", "quiet", "accent") for ground in ("paper", "panel", "front")),
            ("bad", "badge"),
            ("ink", "badge"),
        ):
            light, dark = sorted((luminance(colours[ink]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ink, ground)


def test_a_chart_draws_each_row_with_a_cost_once():
    board = measured_board(example_records(), cards=CARDS)
    for axis in board.axes:
        chart = specification(board, axis)
        drawn = next(layer for layer in chart["layer"] if layer["mark"]["type"] == "point")
        found = drawn["data"]["values"]
        assert [p["id"] for p in found] == [r.id for r in board.rows if axis.key in r.costs.by_axis]
        assert {p["id"] for p in found if p["front"]} == {
            r.id for r in rows_of(board) if r.fronts.get(axis.key)
        }
        assert all(len(p["label"]) <= 30 for p in found)


def test_a_chart_starts_where_most_rows_are():
    few = measured_board(example_records(), cards=CARDS)  # random pruning alone lies below -10
    assert lowest(few) < -10 < floor(few) < 0
    students = published_board(table="lilbobby")
    drops = [row.drop for row in rows_of(students)]
    assert sum(drop < -10 for drop in drops) > len(drops) / 2
    assert floor(students) == lowest(students) <= min(drops)


def test_marks_of_one_chart_have_labels_of_their_own():
    for table in PUBLISHED:
        for axis in (board := published_board(table=table)).axes:
            if not any(row.drop is not None for row in board.rows):
                continue
            chart = specification(board, axis)
            points = next(x for x in chart["layer"] if x["mark"]["type"] == "point")["data"]["values"]
            assert sum(point["label"] == "baseline" for point in points) <= 1, table


def test_labels_cover_neither_marks_nor_each_other():
    from leaderboard.site.charts import HEIGHT, PLACES, STATIC_WIDTH, _place_labels

    points = [
        {"cost": 50.0 + x, "drop": -y, "front": True, "baseline": False, "label": "m" * 20, "place": ""}
        for x, y in ((0, 1), (0.5, 1.1), (1, 1.2), (1.2, 1.25), (30, 3))
    ]
    _place_labels(points, (0.0, 100.0), (-6.0, 1.0), False)
    boxes = []
    for point in points:
        if not point["place"]:
            continue
        place = PLACES[point["place"]]
        x = (STATIC_WIDTH - 70) * point["cost"] / 100 + place.dx
        y = HEIGHT * (1.0 - point["drop"]) / 7 + place.dy
        left = x - {"left": 0, "right": 128, "center": 64}[place.align]
        boxes.append((left, y - 7, left + 128, y + 7))
    assert len(boxes) >= 2
    for number, one in enumerate(boxes):
        for other in boxes[number + 1 :]:
            assert one[2] < other[0] or other[2] < one[0] or one[3] < other[1] or other[3] < one[1]


def test_importing_the_registry_is_cheap():
    import subprocess
    import sys

    heavy = ("pandas", "torch", "altair", "numpy")
    code = f"import leaderboard.registry, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
