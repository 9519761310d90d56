"""Every method passes every check of the conformance suite. For a new one nothing is to be written here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.conformance import CHECKS, Blocked, Subject, run_check
from harness.recipes.discovery import discover

REGISTRY = discover()


@pytest.fixture(scope="module", params=list(REGISTRY.methods))
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    found = REGISTRY.methods[request.param]
    with Subject(found.method, found.path) as subject:
        yield subject


@pytest.mark.parametrize("check", CHECKS)
def test_method(subject: Subject, check: str) -> None:
    try:
        run_check(check, subject)
    except Blocked as reason:  # the check that is at fault fails
        pytest.skip(str(reason))


def test_all_methods_load() -> None:
    assert not REGISTRY.problems
    assert {"dynamic-int8", "magnitude", "random-pruning", "kd-logits"} <= set(REGISTRY.methods)
