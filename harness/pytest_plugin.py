"""The pytest plugin: `pytest --benchmark` runs the timed tests, which are skipped without it."""

from __future__ import annotations

import pytest

FLAG = "--benchmark"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--benchmark` and where its records go."""
    group = parser.getgroup("skyline", "Skyline's timed suite")
    group.addoption(
        FLAG, action="store_true", default=False, help="run the tests marked 'timed' on this (quiet) machine"
    )
    group.addoption(
        "--benchmark-records",
        default="runs",
        metavar="DIR",
        help="folder for the records of the timed suite [runs]",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "timed: measures time; runs only with --benchmark")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With the flag only timed tests run, without it none of them."""
    wanted = bool(config.getoption(FLAG))
    skip = pytest.mark.skip(reason="timed: run with --benchmark" if not wanted else "not timed")
    for item in items:
        if (item.get_closest_marker("timed") is not None) != wanted:
            item.add_marker(skip)
