"""Run profile cells: build, describe and measure their artifacts. Each step runs in a child process."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from harness.common.errors import SkylineError
from harness.common.lazy import lazy_imports
from harness.common.processes import IsolationError, await_server, run_isolated
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
    """The built artifact of a profile cell, and its baseline."""

    folder: Path
    baseline: Path
    origin: str
    """Origin of the weights of both, such as a checkpoint's hash."""
    facts: ArtifactFacts
    """Sizes of the artifact."""


_EXECUTION = {"workload", "runtime", "precision", "device", "time_cap_s"}
"""Fields of a profile cell that do not change its artifact."""


class ProfileRun:
    """Work that the profiles of one run share.

    Each artifact is built, checked and described once for all its runtimes and workloads. The costs of each baseline
    are measured once.
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
        """Costs that were measured before. The first access waits for the server of child processes."""
        if self._kept is None:
            await_server()
            self._kept = costs_kept.KeptCosts(self.workspace)
        return self._kept

    def make(self, cell: ProfileCell, threads: int, watch: Stopwatch) -> Made:
        """Return the cell's artifact and baseline. They are built in a child process unless this run has them.

        `watch` gets the seconds that building and describing took. Raises the errors of `run_isolated`.
        """
        key = cell.model_dump_json(exclude=_EXECUTION)
        known = self._made.get(key)
        if known is not None and known.folder.is_dir() and known.baseline.is_dir():
            return known
        whole = {folder for made in self._made.values() for folder in (made.folder, made.baseline)}
        self._made[key], own = run_isolated(
            make_for_profile, cell, self.workspace, self.data_dir, threads, whole
        )
        watch.add(own)
        return self._made[key]

    def real_batches(self, cell: ProfileCell, made: Made) -> batch.Batch | None:
        """Return the cell's real inputs, a whole split, as one batch, or None if its inputs are synthetic."""
        if cell.workload.inputs == "synthetic":
            return None
        # Some architectures have no tokenizer. All artifacts must read the same rows, so the baseline's encodes them.
        folder = made.folder if cell.workload.task is None else made.baseline
        key = f"{folder} {cell.task_file or cell.task} {cell.workload.model_dump_json()}"
        if key not in self._rows:
            self._rows[key] = run_isolated(real_inputs, folder, cell, self.data_dir)
        return batch.Batch.of_arrays(self._rows[key])

    def count(self, cell: ProfileCell, made: Made) -> None:
        """Count FLOPs and bytes of a cell's artifact on its workload, and keep them for its profile."""
        profiler.count_once(
            made.folder,
            profiling_inputs.Inputs.of(cell.workload, self.real_batches(cell, made)),
            self.kept,
        )

    def sit(self, job: Job, threads: int, share: float) -> None:
        """Time pairs of a profile for a `share` of its time cap, before the profile itself is made.

        Does nothing if the runtime takes long to load. Errors are ignored here: the profile meets them again.
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

    def take_sittings(self, job: Job) -> Sitting | None:
        """Remove and return the sittings of a job, which serve one profile. None if it took none."""
        return self._sittings.pop(job.cell.key, None)

    def half_width(self, job: Job) -> float:
        """Half-width of the interval that a job's sittings give so far (see `Sitting`); 0 if it took none."""
        sitting = self._sittings.get(job.cell.key)
        return 0.0 if sitting is None else sitting.half_width


def make_for_profile(
    cell: ProfileCell, workspace: Path, data_dir: Path | None, threads: int, whole: set[Path]
) -> tuple[Made, Stopwatch]:
    """Build a profile cell's artifact and its baseline, and measure the artifact's sizes. Runs in a child process.

    Folders in `whole` are known to be complete and are not checked again. `threads` must be the threads of a quality
    cell's training, because sums are rounded by it.
    """
    watch = Stopwatch()
    torch.set_num_threads(threads)
    with watch.on("making"):
        resolver = Resolver(data_dir)
        recipe, task = resolver.recipe(cell.recipe), resolver.task(cell)
        if task is None or cell.budget is None:
            folder, baseline = recipes_builder.build_untrained(
                recipe, cell.model, workspace, cell.seed, whole
            )
        else:
            builder = recipes_builder.Builder(
                workspace, cell.model, task, cell.seed, cell.budget, cell.trained_on
            )
            folder, baseline = builder.build(recipe).folder, builder.build(Recipe()).folder
        origin = artifacts.read_config(folder).origin
    with watch.on("describing"):
        described = {"artifact": costs_kept.contents(folder), "isal": version("isal")}
        facts = costs_kept.KeptCosts(workspace).once(
            ArtifactFacts, described, lambda: size.artifact_facts(folder)
        )
    return Made(folder, baseline, origin, facts), watch


def real_inputs(folder: Path, cell: ProfileCell, data_dir: Path | None) -> NDArray[np.int64]:
    """Return all dev rows of the workload's task, or else of the cell's, encoded by the artifact's tokenizer. Runs in a
    child process.

    Raises SkylineError (`incomplete`) if neither names a task.
    """
    examples = Resolver(data_dir).rows(cell).dev()
    pairs = [example.pair or "" for example in examples]
    texts = [example.text for example in examples]
    return profiling_inputs.encoded_split(
        folder, texts, pairs if any(pairs) else None, cell.workload
    ).arrays()


def execute_profile(
    job: Job,
    run: ProfileRun,
    threads: int = 1,
    timed: Callable[[Speed], None] | None = None,
    share: float = 1.0,
) -> Record:
    """Measure a profile and return its record. This process only waits: each measurement runs in a child process.

    `run` holds what earlier profiles built, and keeps what this one builds. `timed` gets the paired timing with its
    single passes. A job with earlier sittings is timed for a `share` of its time cap, like each of them.

    Raises SkylineError for a mistake of the user, Unsupported if the runtime cannot run the artifact, and
    IsolationError if a child process fails.
    """
    cell = job.cell
    assert isinstance(cell, ProfileCell)
    kept = run.kept
    started, began, watch = time.time(), time.perf_counter(), Stopwatch()
    if (sitting := run.take_sittings(job)) is not None:
        began -= sitting.whole_s
        watch.add(sitting.watch)
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
        earlier=None if sitting is None else sitting.times,
        share=1.0 if sitting is None else share,
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
