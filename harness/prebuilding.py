"""Artifacts made before any of them is timed: building is work on one core, so two are built at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness.cells import Cell, ProfileCell
from harness.errors import SkylineError
from harness.execute import make_for_profile
from harness.isolation import IsolationError, run_isolated


def untrained_artifacts(cells: Sequence[Cell]) -> list[ProfileCell]:
    """One cell for each untrained artifact that some cells profile, the baselines first."""
    found: dict[tuple[str, str, int], ProfileCell] = {}
    for cell in cells:
        if isinstance(cell, ProfileCell) and cell.task is None:
            base = cell.model_copy(update={"recipe": "baseline"})
            for each in (base, cell):
                found.setdefault((each.recipe, each.model, each.seed), each)
    return sorted(found.values(), key=lambda cell: cell.recipe != "baseline")


def build_ahead(cells: Sequence[Cell], workspace: Path, workers: int | None = None) -> list[str]:
    """Build and describe the untrained artifacts of some cells, `workers` at once (one a core); returns a line for each
    that could not be built. What fails here fails in its cell again, which then records why.
    """
    wanted = untrained_artifacts(cells)
    count = workers or len(os.sched_getaffinity(0))

    def build(cell: ProfileCell) -> str | None:
        try:
            run_isolated(make_for_profile, cell.model_dump_json(), workspace, None, 1, set())
        except (SkylineError, IsolationError) as error:
            return f"{cell.recipe}: {' '.join(str(error).split())}"
        return None

    # The baselines alone: all others are built on them, and would each begin with them.
    bases = [cell for cell in wanted if cell.recipe == "baseline"]
    problems = [build(cell) for cell in bases]
    with ThreadPoolExecutor(count) as pool:
        problems += pool.map(build, wanted[len(bases) :])
    return [problem for problem in problems if problem is not None]
