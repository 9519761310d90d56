"""The page in a real browser, from disk and without a network."""

from __future__ import annotations

import shutil

import pytest

from leaderboard.boards.measured import measured_board
from leaderboard.site.page import render_page
from tests.support.board_records import card, example_page, quality

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
]

MEASURED = "#measured"
PUBLISHED = "#published-ganesh2021"
PRUNED = "#published-gordon2020"


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS, timeout=180_000)
        yield running
        running.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(example_page(), encoding="utf-8")
    return path


class Opened:
    """A page with what it logged and asked for."""

    def __init__(self, browser, path, **options):
        self.context = browser.new_context(offline=True, **options)
        self.context.set_default_timeout(120_000)
        self.page = self.context.new_page()
        self.logged, self.requests = [], []
        self.page.on("console", lambda message: self.logged.append(message.text))
        self.page.on("pageerror", lambda error: self.logged.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def drawn(self, board, axis):
        self.page.wait_for_selector(f"{board} [data-chart][data-drawn='{axis}'] svg")


@pytest.fixture
def opened(browser, file):
    found = Opened(browser, file, viewport={"width": 1280, "height": 900})
    found.drawn(MEASURED, "size")
    yield found
    found.context.close()


def shown(page, board=MEASURED):
    return page.eval_on_selector_all(
        f"{board} tbody tr", "rows => rows.filter(r => !r.hidden).map(r => r.dataset.id)"
    )


def marks(page, board=MEASURED):
    """The names of the marks that the chart draws."""
    return page.eval_on_selector_all(
        f"{board} [data-chart] .mark-symbol path", "paths => paths.map(p => p.getAttribute('aria-label'))"
    )


def axis_title(page, board=MEASURED):
    titles = page.eval_on_selector_all(
        f"{board} .role-axis-title text", "texts => texts.map(t => t.textContent)"
    )
    return next(title for title in titles if "drop" not in title)


def test_opens_from_disk_without_network_or_errors(opened, file):
    opened.page.locator(f"{PUBLISHED} [data-chart]").scroll_into_view_if_needed()
    opened.drawn(PUBLISHED, "size")
    assert opened.requests == [file.as_uri()]
    assert opened.logged == []
    assert axis_title(opened.page) == "Size on disk (% of the baseline's)"


def test_every_published_table_draws_its_own_chart(opened):
    page = opened.page
    page.locator(f"{PRUNED} [data-chart]").scroll_into_view_if_needed()
    opened.drawn(PRUNED, "kept")
    assert axis_title(page, PRUNED) == "Weights kept (% of the pruned matrices)"
    page.uncheck(f"{PRUNED} input[data-family=unstructured-pruning]")
    assert shown(page, PRUNED) == ["gordon2020/1"]
    assert len(shown(page, PUBLISHED)) == 26
    assert page.locator("#published-movva2022-ratios [data-chart]").count() == 0  # it prints no scores
    assert len(shown(page, "#published-movva2022-ratios")) == 48
    assert opened.logged == []


def test_the_axis_selector_changes_chart_front_and_table(opened):
    page = opened.page
    rows = "rows => rows.map(r => r.dataset.id)"
    before = page.eval_on_selector_all(f"{MEASURED} tr.front", rows)
    page.select_option(f"{MEASURED} [data-axis]", "latency-128-eager")
    opened.drawn(MEASURED, "latency-128-eager")
    assert axis_title(page) == "Latency, 128 tokens, eager (% of the baseline's)"
    after = page.eval_on_selector_all(f"{MEASURED} tr.front", rows)
    assert set(after) != set(before)
    assert "kd-logits:layers=3@minilm-l6" in after
    marked = page.eval_on_selector_all(
        f"{MEASURED} td[data-front]", "cells => cells.filter(c => c.textContent.includes('◆')).length"
    )
    assert marked == len(after)
    assert opened.logged == []


def test_sorting_by_keyboard_says_so(opened):
    page = opened.page
    head = page.locator(f"{MEASURED} th[data-key=size]")
    head.locator("button").focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    values = page.eval_on_selector_all(
        f"{MEASURED} tbody tr",
        f"rows => rows.map(r => Number(r.cells[{index_of(page, 'size')}].dataset.value))",
    )
    assert values == sorted(values)
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    page.locator(f"{MEASURED} th[data-key=title] button").click()
    assert head.get_attribute("aria-sort") is None
    names = page.eval_on_selector_all(f"{MEASURED} tbody th", "cells => cells.map(c => c.dataset.value)")
    assert names == sorted(names)


def index_of(page, key):
    keys = page.eval_on_selector_all(f"{MEASURED} thead th", "heads => heads.map(h => h.dataset.key)")
    return keys.index(key)


def test_missing_figures_sort_last_both_ways(opened):
    page = opened.page
    for _ in range(2):
        page.locator(f"{MEASURED} th[data-key=speedup] button").click()
        assert shown(page)[-1].startswith("kd-logits:layers=3 + magnitude")


def test_filters_reach_table_and_chart(opened):
    page = opened.page
    everything = len(shown(page))
    drawn = len(marks(page))
    page.uncheck(f"{MEASURED} input[data-family=combination]")
    page.wait_for_function(f"document.querySelectorAll('{MEASURED} .mark-symbol path').length < {drawn}")
    assert len(shown(page)) == everything - 3
    assert "6 of 9 rows" in page.inner_text(f"{MEASURED} [data-status]")
    page.fill(f"{MEASURED} [data-search]", "magnitude")
    assert shown(page) == ["magnitude:sparsity=0.4@minilm-l6", "magnitude:sparsity=0.6@minilm-l6"]
    page.check(f"{MEASURED} [data-front-only]")
    assert shown(page) == ["magnitude:sparsity=0.4@minilm-l6"]
    assert len(shown(page, PUBLISHED)) == 26
    # The filter outlives a change of axis.
    page.select_option(f"{MEASURED} [data-axis]", "memory-128-eager")
    opened.drawn(MEASURED, "memory-128-eager")
    assert shown(page) == []
    page.click(f"{MEASURED} [data-reset]")
    assert len(shown(page)) == everything
    assert opened.logged == []


def test_a_picked_row_stays_picked_on_another_axis(opened):
    page = opened.page
    page.locator(f"{MEASURED} tr[data-id='dynamic-int8@minilm-l6'] [data-name] button").click()
    page.select_option(f"{MEASURED} [data-axis]", "flops-128")
    opened.drawn(MEASURED, "flops-128")
    thick = f"""document.querySelector("{MEASURED} .mark-symbol path[stroke-width='3.5']")"""
    page.wait_for_function(f"{thick} !== null")
    assert "Dynamic int8" in page.evaluate(f"{thick}.getAttribute('aria-label')")
    pressed = page.get_attribute(f"{MEASURED} tr.picked [data-name] button", "aria-pressed")
    assert pressed == "true"


def test_a_mark_picks_its_row(opened):
    page = opened.page
    page.locator(f"{MEASURED} .mark-symbol path[aria-label^='Dynamic int8:']").click(force=True)
    page.wait_for_selector(f"{MEASURED} tr.picked[data-id='dynamic-int8@minilm-l6']")


def test_drops_out_of_the_picture_can_be_drawn(opened):
    page = opened.page
    drawn = len(marks(page))
    page.check(f"{MEASURED} [data-all-drops]")
    page.wait_for_function(f"document.querySelectorAll('{MEASURED} .mark-symbol path').length > {drawn}")
    assert any("Random pruning" in name for name in marks(page))


def test_it_is_a_plain_table_without_scripts(browser, file):
    found = Opened(browser, file, java_script_enabled=False)
    assert found.page.locator(f"{MEASURED} tbody tr").count() == 9
    assert found.page.locator(f"{MEASURED} [data-chart] svg").count() == 1
    assert not found.page.locator(f"{MEASURED} [data-controls]").is_visible()
    assert not found.page.locator(f"{MEASURED} input[data-family]").first.is_visible()
    found.context.close()


@pytest.mark.parametrize("width", [390, 768])
def test_nothing_runs_out_of_a_narrow_window(browser, file, width):
    found = Opened(browser, file, viewport={"width": width, "height": 800})
    found.drawn(MEASURED, "size")
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    assert found.logged == []
    found.context.close()


def test_hostile_and_huge_names_do_no_harm(browser, tmp_path):
    evil = "<img src=x onerror='window.pwned=1'></script><script>window.pwned=1</script>"
    cards = {"magnitude": card(evil, evil), "m" * 300: card("w" * 300, "quantization")}
    records = [quality(r, "sst2", s) for r, s in (("baseline", 90.0), ("magnitude", 89.0), ("m" * 300, 88.0))]
    path = tmp_path / "index.html"
    path.write_text(render_page([measured_board(records, cards=cards)]), encoding="utf-8")
    found = Opened(browser, path, viewport={"width": 390, "height": 800})
    found.drawn(MEASURED, "size")
    point = found.page.locator(f"{MEASURED} .mark-symbol path[aria-label^='<img']")
    point.hover(force=True)
    found.page.wait_for_selector("#vg-tooltip-element.visible")
    assert found.page.evaluate("window.pwned") is None
    assert found.page.evaluate("document.images.length") == 0
    assert found.page.evaluate("document.documentElement.scrollWidth") <= 390
    found.context.close()
