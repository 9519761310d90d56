"""The registry: what it knows, what it refuses, and that each board and table reads what it says it needs."""

from __future__ import annotations

import pytest

from harness.common.errors import Code
from leaderboard import registry
from leaderboard.boards.claims import installed_cards
from leaderboard.boards.names import is_averaged, primary_metric, task_title
from tests.support.board_records import PUBLISHED, example_records
from tests.support.one_line_errors import refused

ALL = [entry for entries in registry.ENTRIES.values() for entry in entries]


def test_boards_and_tables_are_found_by_name() -> None:
    assert registry.find("measured", None) is registry.MEASURED
    assert registry.find("published", None).name == PUBLISHED[0]
    for kind, entries in registry.ENTRIES.items():
        assert all(registry.find(kind, entry.name) is entry for entry in entries if entry.name)


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with refused(Code.UNKNOWN_NAME, "'measured'"):
        registry.find("measure", None)
    with refused(Code.UNKNOWN_NAME, "'breakdown'"):
        registry.find("architecture", "brakedown")


@pytest.mark.parametrize("entry", ALL, ids=lambda entry: f"{entry.kind}-{entry.name}")
def test_an_entry_refuses_the_options_that_it_does_not_take(entry: registry.Entry) -> None:
    choices = {"task": ["sst2"], "model": "bert-base", "axis": "disk", "front": True}
    for option, value in choices.items():
        choice = registry.Choice(**{option: value})
        if option in entry.options:
            entry.check(choice)
        else:
            with refused(Code.CONFLICT, f"--{option}", entry.kind, entry.name):
                entry.check(choice)


def test_what_a_published_board_needs_is_enough_and_records_are_not_among_it() -> None:
    for entry in registry.PUBLISHED:
        assert entry.needs == ("tables",)
        assert entry.build(registry.Sources(), registry.Choice()).rows


def test_the_measured_board_takes_records_and_cards() -> None:
    sources = registry.Sources(example_records(), installed_cards())
    board = registry.MEASURED.build(sources, registry.Choice(task=["sst2"], axis="latency-128-eager"))
    assert (list(board.tasks), board.axis) == (["sst2"], "latency-128-eager")


def test_tasks_say_their_titles_metrics_and_averages_themselves() -> None:
    assert [
        task_title(task) for task in ("sst2", "squad", "toy-pairs", "qqp-f1", "cola-accuracy", "mine")
    ] == [*("SST-2", "SQuAD", "Toy pairs", "QQP F1", "CoLA accuracy", "mine")]
    assert [primary_metric(task) for task in ("cola", "stsb", "squad", "mrpc", "toy-pairs")] == [
        *("matthews_correlation", "pearson", "f1", "accuracy", "accuracy")
    ]
    assert [task for task in ("sst2", "wnli", "squad") if not is_averaged(task)] == ["wnli"]
