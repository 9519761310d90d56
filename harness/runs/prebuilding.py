"""Build untrained artifacts, and count their FLOPs and bytes, before any of them is timed.

This work uses one core per artifact, so several artifacts are built in parallel.
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


def untrained_artifacts(cells: Sequence[Cell]) -> list[list[ProfileCell]]:
    """Return the profiles of each untrained artifact that `cells` profile, one per workload. Baselines come first.

    A baseline is measured on the workloads of all recipes with its base model and seed.
    """
    found: dict[tuple[str, str, int], dict[str, ProfileCell]] = {}
    for cell in cells:
        if isinstance(cell, ProfileCell) and cell.task is None:
            for each in (cell.model_copy(update={"recipe": "baseline"}), cell):
                profiles = found.setdefault((each.recipe, each.model, each.seed), {})
                profiles.setdefault(each.workload.model_dump_json(), each)
    artifacts = [list(profiles.values()) for profiles in found.values()]
    return sorted(artifacts, key=lambda profiles: profiles[0].recipe != "baseline")


def build_ahead(cells: Sequence[Cell], run: ProfileRun, workers: int) -> None:
    """Build, describe and count the untrained artifacts of `cells`, `workers` of them in parallel.

    Errors are ignored here: the artifact's own cell meets them again and records them.
    """

    def build(profiles: list[ProfileCell]) -> None:
        with suppress(SkylineError, IsolationError):
            made = run.make(profiles[0], 1, Stopwatch())
            for cell in profiles:
                with suppress(SkylineError, IsolationError):
                    run.count(cell, made)

    # First the baselines, one by one: each other artifact is built on one of them, and would build it too.
    artifacts = untrained_artifacts(cells)
    baselines = [profiles for profiles in artifacts if profiles[0].recipe == "baseline"]
    for profiles in baselines:
        build(profiles)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(build, artifacts[len(baselines) :]))
