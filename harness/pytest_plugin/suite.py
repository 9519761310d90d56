"""The timed suite: one test per chosen cell. `pytest --benchmark` adds its items; pytest does not collect this file."""

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
"""Key of the suite's jobs in a session's stash."""
NAME = "skyline"
"""Beginning of the suite's node ids. It does not depend on where the package is installed, because pytest-benchmark
compares saved runs by node id.
"""


def suite_items(session: pytest.Session) -> list[pytest.Item]:
    """Return the suite's test items. The session's stash must hold the jobs under `JOBS`."""
    here = sys.modules[__name__]
    module: pytest.Module = pytest.Module.from_parent(
        session, path=Path(str(here.__file__)), name=NAME, nodeid=NAME
    )
    module.obj = here  # keep pytest from importing this file again under another name
    return list(session.genitems(module))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test per cell."""
    cells = [job.cell for job in metafunc.config.stash[JOBS] if isinstance(job.cell, ProfileCell)]
    metafunc.parametrize(
        ("recipe", "runtime", "workload"),
        [(cell.recipe, execution_text(cell), workload_text(cell)) for cell in cells],
        ids=[label(cell) for cell in cells],
    )


def test_profile(recipe: str, runtime: str, workload: str, skyline_profile: Callable[..., Record]) -> None:
    """Measure one cell and write its record. A failed or skipped cell fails or skips the test."""
    skyline_profile(recipe, runtime=runtime, workload=workload)
