"""Profile cells: their artifacts are made, described and measured, each step in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from harness.common.errors import SkylineError
from harness.common.lazy import lazy_imports
from harness.common.processes import IsolationError, await_server, run_isolated, start_server
from harness.profiling.stopwatch import Stopwatch
from harness.recipes.recipe import Recipe
from harness.records.cells import ProfileCell
from harness.records.schema import ArtifactFacts, Record
from harness.runs.record_making import make_record
from harness.runs.resolution import Resolver

with lazy_imports():
    import torch

    from harness.models import artifacts, batch
    from harness.profiling import inputs as profiling_inputs
    from harness.profiling import profile as profiler
    from harness.profiling.costs import kept as costs_kept
    from harness.profiling.costs import size
    from harness.profiling.latency import sittings
    from harness.recipes import builder as recipes_builder


if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.profiling.costs.kept import KeptCosts
    from harness.profiling.latency.paired import Speed
    from harness.profiling.latency.sittings import Sitting
    from harness.runs.job import Job


@dataclass(frozen=True)
class Made:
    """A profile cell's artifact and its baseline, and what weights they hold; `facts` are the artifact's."""

    folder: Path
    baseline: Path
    origin: str
    facts: ArtifactFacts


_EXECUTION = {"runtime", "precision", "device", "time_cap_s"}


class ProfileRun:
    """What the profiles of one run share: an artifact is built, found to be whole and described once, whatever it is
    profiled under, and its baseline's costs are measured once.
    """

    def __init__(self, workspace: Path, data_dir: Path | None = None) -> None:
        self.workspace = workspace
        self.data_dir = data_dir
        self._made: dict[str, Made] = {}
        self._rows: dict[str, NDArray[np.int64]] = {}
        self._sittings: dict[str, Sitting] = {}
        self._kept: KeptCosts | None = None

    def __enter__(self) -> ProfileRun:
        return self

    def __exit__(self, *_: object) -> None:
        if self._kept is not None:
            self._kept.close()

    @property
    def kept(self) -> costs_kept.KeptCosts:
        """Costs that were measured. The first call waits for the server of processes."""
        if self._kept is None:
            start_server()  # which imports what this process imports meanwhile

            await_server()
            self._kept = costs_kept.KeptCosts(self.workspace)
        return self._kept

    def make(self, cell: ProfileCell, threads: int, watch: Stopwatch) -> Made:
        """The cell's artifact and baseline, made in a process of their own unless this run has them."""
        key = cell.model_dump_json(exclude={"workload", *_EXECUTION})
        known = self._made.get(key)
        if known is not None and known.folder.is_dir() and known.baseline.is_dir():
            return known
        asked = (cell, self.workspace, self.data_dir, threads, self._whole)
        self._made[key], own = run_isolated(make_for_profile, *asked)
        watch.add(own)
        return self._made[key]

    def rows(self, cell: ProfileCell, folder: Path) -> NDArray[np.int64]:
        """The cell's real inputs, in the tokens of the artifact in a folder. They are read once for all artifacts that
        share one.
        """
        key = f"{folder} {cell.task_file or cell.task} {cell.workload.model_dump_json()}"
        if key not in self._rows:
            self._rows[key] = run_isolated(real_inputs, folder, cell, self.data_dir)
        return self._rows[key]

    def real_batches(self, cell: ProfileCell, made: Made) -> batch.Batch | None:
        """The cell's real inputs as one batch; None where it has synthetic ones."""
        if cell.workload.inputs == "synthetic":
            return None
        # Not every architecture has a tokenizer, and all are to read the same.
        tokens = made.folder if cell.workload.task is None else made.baseline
        return batch.Batch.of_arrays(self.rows(cell, tokens))

    def count(self, cell: ProfileCell, made: Made) -> None:
        """Count what needs no timing of a cell's artifact on its workload; its profile finds it kept."""
        profiler.count_once(
            made.folder,
            profiling_inputs.Inputs.of(cell.workload, self.real_batches(cell, made)),
            self.kept,
        )

    def sit(self, job: Job, threads: int, share: float) -> None:
        """Take a sitting of a profile's pairs before the profile, for a `share` of its time cap, where its runtime
        loads in little time. Whatever is wrong with the cell is left for its profile to say.
        """
        cell, runtime = job.cell, job.runtime
        if not isinstance(cell, ProfileCell) or runtime is None or not sittings.takes_sittings(runtime):
            return
        with suppress(SkylineError, IsolationError):
            made = self.make(cell, threads, Stopwatch())
            inputs = profiling_inputs.Inputs.of(cell.workload, self.real_batches(cell, made))
            before = self._sittings.get(cell.key)
            self._sittings[cell.key] = sittings.take_sitting(
                cell, made.folder, made.baseline, inputs, share, before
            )

    def sat(self, job: Job) -> Sitting | None:
        """The sittings that were taken of a job; they are for one profile."""
        return self._sittings.pop(job.cell.key, None)

    def half_width(self, job: Job) -> float:
        """The half-width of the interval that a job's sittings give so far (see `Sitting`); 0 if it took none."""
        sat = self._sittings.get(job.cell.key)
        return 0.0 if sat is None else sat.half_width

    @property
    def _whole(self) -> set[Path]:
        return {folder for made in self._made.values() for folder in (made.folder, made.baseline)}


def make_for_profile(
    cell: ProfileCell, workspace: Path, data_dir: Path | None, threads: int, whole: set[Path]
) -> tuple[Made, Stopwatch]:
    """Make a profile cell's artifact and its baseline, but for those known to be `whole`, and describe the first,
    unless that was done. Runs in a process of its own; trainings use as many threads as those of quality cells.
    """
    watch = Stopwatch()
    with watch.on("making"):
        folder, baseline, origin = build_for_profile(cell, workspace, data_dir, threads, whole)
    with watch.on("describing"):
        described = {"artifact": costs_kept.contents(folder), "isal": version("isal")}
        facts = costs_kept.KeptCosts(workspace).once(
            ArtifactFacts, described, lambda: size.artifact_facts(folder)
        )
    return Made(folder, baseline, origin, facts), watch


def build_for_profile(
    cell: ProfileCell, workspace: Path, data_dir: Path | None, threads: int, whole: Collection[Path] = ()
) -> tuple[Path, Path, str]:
    """A profile cell's artifact and its baseline: their folders, and what weights they hold."""
    torch.set_num_threads(threads)
    resolver = Resolver(data_dir)
    recipe, task = resolver.recipe(cell.recipe), resolver.task(cell)
    if task is None or cell.budget is None:
        folder, baseline = recipes_builder.build_untrained(recipe, cell.model, workspace, cell.seed, whole)
    else:
        builder = recipes_builder.Builder(
            workspace, cell.model, task, cell.seed, cell.budget, cell.trained_on
        )
        folder, baseline = builder.build(recipe).folder, builder.build(Recipe()).folder
    return folder, baseline, artifacts.read_config(folder).origin


def real_inputs(folder: Path, cell: ProfileCell, data_dir: Path | None) -> NDArray[np.int64]:
    """Rows of a profile cell's task, or of its workload's, from the dev split, in the tokens of an artifact (see
    `real_rows`). Runs in a process of its own. Raises SkylineError where neither has a task.
    """
    examples = Resolver(data_dir).rows(cell).dev()
    pairs = [example.pair or "" for example in examples]
    texts = [example.text for example in examples]
    return profiling_inputs.real_rows(folder, texts, pairs if any(pairs) else None, cell.workload).arrays()


def execute_profile(
    job: Job,
    run: ProfileRun,
    threads: int = 1,
    timed: Callable[[Speed], None] | None = None,
    share: float = 1.0,
) -> Record:
    """Measure a profile. Called in the launching process, which only waits: each measurement has its own child.

    `run` has what the profiles before this one made, and keeps what this one makes. `timed` is given the paired run
    with its single passes. A job with sittings is timed for a `share` of its time cap, as in each of those.
    """
    cell = job.cell
    assert isinstance(cell, ProfileCell)
    kept = run.kept
    started, began, watch = time.time(), time.perf_counter(), Stopwatch()
    if (sat := run.sat(job)) is not None:
        began -= sat.whole_s
        watch.add(sat.watch)
    made = run.make(cell, threads, watch)
    profile = profiler.profile_artifact(
        made.folder,
        made.baseline,
        recipe=cell.recipe,
        model=cell.model,
        weights=made.origin,
        workload=cell.workload,
        runtime=cell.runtime,
        precision=cell.precision,
        device=cell.device,
        time_cap_s=cell.time_cap_s,
        real_batches=run.real_batches(cell, made),
        timed=timed,
        earlier=None if sat is None else sat.times,
        share=1.0 if sat is None else share,
        kept=kept,
        watch=watch,
    )
    return make_record(
        cell,
        job.recipe,
        job.fingerprint,
        job.hardware,
        started,
        artifact=made.facts,
        profile=profile,
        weights=made.origin,
        spent=watch.spent(time.perf_counter() - began),
    )
