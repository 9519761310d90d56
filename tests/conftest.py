"""Options of the whole suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("skyline").addoption(
        "--benchmark-tiny",
        action="store_true",
        default=False,
        help="with --benchmark: go through the timed suite on a tiny model; its figures then mean nothing",
    )
