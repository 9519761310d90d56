"""What the tests of conformance share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from harness.conformance import behaviour


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Call what conformance runs in a child here: test_conformance.py has the real children."""

    def call(function: Callable[..., Any], *args: Any) -> Any:
        return function(*args)

    monkeypatch.setattr(behaviour, "run_isolated", call)
