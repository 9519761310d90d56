"""The timed suite that is shipped: a test for each chosen cell. `pytest --benchmark` makes its items; a runner finds
none of them by this file's name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.pytest_plugin.selection import execution_text, label, workload_text
from harness.records.cells import ProfileCell
from harness.records.schema import Record
from harness.runs.job import Job

JOBS = pytest.StashKey[list[Job]]()
"""Where a session keeps the jobs of the suite."""
NAME = "skyline"
"""The beginning of its node ids, wherever this package is installed: saved runs are compared by node ids."""


def suite_items(session: pytest.Session) -> list[pytest.Item]:
    """The suite's items in a session, whose stash holds the jobs."""
    here = sys.modules[__name__]
    module: pytest.Module = pytest.Module.from_parent(
        session, path=Path(str(here.__file__)), name=NAME, nodeid=NAME
    )
    module.obj = here  # imported as it stands, by its own name
    return list(session.genitems(module))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each cell."""
    cells = [job.cell for job in metafunc.config.stash[JOBS] if isinstance(job.cell, ProfileCell)]
    metafunc.parametrize(
        ("recipe", "runtime", "workload"),
        [(cell.recipe, execution_text(cell), workload_text(cell)) for cell in cells],
        ids=[label(cell) for cell in cells],
    )


def test_profile(recipe: str, runtime: str, workload: str, skyline_profile: Callable[..., Record]) -> None:
    """Measure and record one cell; a failed or skipped one fails or skips the test."""
    skyline_profile(recipe, runtime=runtime, workload=workload)
