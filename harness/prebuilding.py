"""Artifacts made before any of them is timed: building is work on one core, so several are built at once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from harness.cells import Cell, ProfileCell
from harness.errors import SkylineError
from harness.execute import ProfileRun
from harness.isolation import IsolationError
from harness.profiling.stopwatch import Stopwatch


def untrained_artifacts(cells: Sequence[Cell]) -> list[ProfileCell]:
    """One cell for each untrained artifact that some cells profile, the baselines first."""
    found: dict[tuple[str, str, int], ProfileCell] = {}
    for cell in cells:
        if isinstance(cell, ProfileCell) and cell.task is None:
            base = cell.model_copy(update={"recipe": "baseline"})
            for each in (base, cell):
                found.setdefault((each.recipe, each.model, each.seed), each)
    return sorted(found.values(), key=lambda cell: cell.recipe != "baseline")


def build_ahead(wanted: Sequence[ProfileCell], run: ProfileRun, workers: int) -> None:
    """Build and describe the artifacts of some cells (see `untrained_artifacts`) for a run, `workers` at once. What
    fails here fails in its own cell again, which then records why.
    """

    def build(cell: ProfileCell) -> None:
        with suppress(SkylineError, IsolationError):
            run.make(cell, None, 1, Stopwatch())

    # The baselines alone: all others are built on them, and would each begin with them.
    bases = [cell for cell in wanted if cell.recipe == "baseline"]
    for cell in bases:
        build(cell)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(build, wanted[len(bases) :]))
