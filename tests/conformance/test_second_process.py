"""Figures that a second process works out are those that this one would."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.conformance import Subject
from harness.recipes.discovery import discover


@pytest.fixture(scope="module")
def here() -> Subject:
    found = discover().methods["magnitude"]
    with Subject(found.method, found.path) as subject:
        _ = subject.costs, subject.qualities
        return subject


def test_both_processes_find_the_same(here: Subject) -> None:
    threads = torch.get_num_threads()
    with Subject(here.method, here.path, second_process=True) as subject:
        assert subject.costs == here.costs
        assert subject.qualities == here.qualities
        assert subject._figures is not None
        assert subject._figures[0].quality.examples > 0
    assert torch.get_num_threads() == threads


def test_what_fails_there_is_tried_here(here: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    with Subject(here.method, here.path, second_process=True) as subject:
        assert subject._second is not None
        tell = subject._second.tell
        monkeypatch.setattr(
            subject._second, "tell", lambda folders, workload: tell([Path("nowhere"), *folders], workload)
        )
        assert subject.costs == here.costs
        assert subject._figures is None
        assert subject.qualities == here.qualities


def test_a_subject_that_makes_nothing_ends_the_process(here: Subject) -> None:
    with Subject(here.method, here.path, second_process=True) as subject:
        assert subject._second is not None
        assert subject._second.figures() is None
        waiting = subject._second._figures
    assert waiting.result() == []
