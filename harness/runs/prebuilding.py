"""Artifacts made, and their FLOPs and bytes counted, before any of them is timed: that is work on one core, so it is
done for several at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from harness.common.errors import SkylineError
from harness.common.processes import IsolationError
from harness.profiling.stopwatch import Stopwatch
from harness.records.cells import Cell, ProfileCell
from harness.runs.profile_run import ProfileRun


def untrained_artifacts(cells: Sequence[Cell]) -> list[ProfileCell]:
    """One cell for each untrained artifact that some cells profile, the baselines first."""
    found: dict[tuple[str, str, int], ProfileCell] = {}
    for cell in cells:
        if isinstance(cell, ProfileCell) and cell.task is None:
            base = cell.model_copy(update={"recipe": "baseline"})
            for each in (base, cell):
                found.setdefault((each.recipe, each.model, each.seed), each)
    return sorted(found.values(), key=lambda cell: cell.recipe != "baseline")


def on_each_workload(cells: Sequence[Cell], artifact: ProfileCell) -> list[ProfileCell]:
    """The profiles of an untrained artifact, one for each workload that it is measured on: a baseline is on all that
    are of its base model.
    """
    found: dict[str, ProfileCell] = {}
    for cell in cells:
        if not isinstance(cell, ProfileCell) or cell.task is not None:
            continue
        of = "baseline" if artifact.recipe == "baseline" else cell.recipe
        if (of, cell.model, cell.seed) == (artifact.recipe, artifact.model, artifact.seed):
            own = artifact.model_copy(update={"workload": cell.workload})
            found.setdefault(cell.workload.model_dump_json(), own)
    return list(found.values())


def build_ahead(cells: Sequence[Cell], run: ProfileRun, workers: int) -> None:
    """Build, describe and count the untrained artifacts of some cells for a run, `workers` at once. What fails here
    fails in its own cell again, which then records why.
    """

    def build(artifact: ProfileCell) -> None:
        with suppress(SkylineError, IsolationError):
            made = run.make(artifact, 1, Stopwatch())
            for cell in on_each_workload(cells, artifact):
                with suppress(SkylineError, IsolationError):
                    run.count(cell, made)

    # The baselines alone: all others are built on them, and would each begin with them.
    wanted = untrained_artifacts(cells)
    bases = [cell for cell in wanted if cell.recipe == "baseline"]
    for cell in bases:
        build(cell)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(build, wanted[len(bases) :]))
