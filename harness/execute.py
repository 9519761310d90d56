"""What runs inside a cell's own process: it makes the artifact, measures it and returns the record as JSON."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.cells import BudgetSpec, Cell, ProfileCell, QualityCell
from harness.errors import SkylineError
from harness.provenance import EVALUATION_VERSION, PROFILING_VERSION, artifact_fingerprint, digest
from harness.recipe import Recipe
from harness.records import Provenance, Record, Status
from harness.tasks import load_task
from harness.tasks.base import Task
from harness.version import __version__

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.model import Batch
    from harness.profiling.kept_costs import KeptCosts
    from harness.profiling.sittings import Sitting
    from harness.profiling.speed import Speed
    from harness.profiling.stopwatch import Stopwatch
    from harness.records import ArtifactFacts

Report = Callable[[Any], None]


def task_of(cell: Cell, data_dir: Path | str | None) -> Task:
    """The task of a cell that has one.

    Raises what `load_task` raises, and SkylineError where the description of a task of one's own is no longer
    the one that the cell was made from.
    """
    assert cell.task is not None
    task = load_task(cell.task_file or cell.task, data_dir)
    if task.described != cell.description:
        raise SkylineError(f"{cell.task_file or cell.task} was changed since the run began; run again")
    return task


def artifact_fingerprint_of(cell: Cell, data_dir: Path | None) -> str:
    """The fingerprint of the artifact that a cell measures."""
    from harness.checkpoints import origin_of

    data, budgets = "none", BudgetSpec()
    if cell.task is not None and cell.budget is not None:
        data, budgets = _data_fingerprint(cell, data_dir), cell.budget
    return artifact_fingerprint(
        Recipe.parse(cell.recipe),
        origin=origin_of(cell.model),
        data=data,
        seed=cell.seed,
        budgets=budgets.model_dump(),
        device=cell.trained_on,
    )


def _data_fingerprint(cell: Cell, data_dir: Path | None) -> str:
    """The fingerprint of a cell's task. All cells of a task ask for it, so its data are read once."""
    task = task_of(cell, data_dir)
    try:
        versions = tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in task.files)
    except OSError:
        return task.fingerprint()  # its error names the file
    return _fingerprint_of_version(cell.task_file or task.name, data_dir, task.described, versions)


@cache
def _fingerprint_of_version(
    name: str, data_dir: Path | None, _described: str | None, _versions: tuple[tuple[Path, int, int], ...]
) -> str:
    return load_task(name, data_dir).fingerprint()


def fingerprint(cell: Cell, data_dir: Path | None) -> str:
    """All that makes the cell's record stale, hashed."""
    from harness.hardware import hardware, versions
    from harness.runtimes import get_runtime

    parts: dict[str, Any] = {"artifact": artifact_fingerprint_of(cell, data_dir)}
    if isinstance(cell, QualityCell):
        parts["evaluation"] = EVALUATION_VERSION
    else:
        if cell.workload.task is not None:
            parts["rows"] = load_task(cell.workload.task, data_dir).fingerprint()
        parts |= {
            "profiling": PROFILING_VERSION,
            "torch": versions().get("torch"),
            "hardware": hardware(cell.device).id,
            **get_runtime(cell.runtime).versions(),
        }
    return digest(parts)


def make_record(
    cell: Cell, stamp: str, started: float, status: Status = "ok", reason: str = "", **measured: Any
) -> Record:
    """A record with this process's provenance. `started` is the wall clock's reading at the start."""
    from harness.hardware import hardware, versions

    data = measured.pop("data", None)
    weights = measured.pop("weights", "")
    spent = measured.pop("spent", None)
    return Record(
        kind="quality" if isinstance(cell, QualityCell) else "profile",
        key=cell.key,
        status=status,
        reason=reason,
        recipe=cell.recipe,
        model=cell.model,
        task=cell.task,
        seed=cell.seed,
        cell=cell.identity(),
        provenance=Provenance(
            fingerprint=stamp,
            skyline=__version__,
            versions=versions(),
            hardware=hardware(cell.measured_on),
            weights=weights,
            data=data,
            started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
            seconds=round(time.time() - started, 3),
            spent=spent,
        ),
        **measured,
    )


def execute_quality(
    cell_json: str, workspace: str, data_dir: str | None, stamp: str, threads: int, report: Report
) -> str:
    """Train and score one quality cell; `report` gets (stage, step, steps, loss). Returns the record as JSON."""
    import torch

    from harness.artifacts import load_artifact
    from harness.build import Builder
    from harness.evaluation import evaluate_quality
    from harness.profiling.size import artifact_facts

    started = time.time()
    torch.set_num_threads(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    cell = QualityCell.model_validate_json(cell_json)
    task = task_of(cell, data_dir)
    builder = Builder(
        Path(workspace),
        cell.model,
        task,
        cell.seed,
        cell.budget,
        cell.trained_on,
        report=lambda stage, p: report((stage, p.step, p.steps, p.loss)),
    )
    built = builder.build(Recipe.parse(cell.recipe))
    # Loaded from disk again: what is scored is what is weighed.
    model = load_artifact(built.folder)
    quality = evaluate_quality(model.to(cell.trained_on), task, cell.trained_on, built.training)
    facts = artifact_facts(built.folder)
    record = make_record(
        cell,
        stamp,
        started,
        reason=_cut(task, model.config.positions),
        artifact=facts,
        quality=quality,
        data=task.fingerprint(),
        weights=model.origin,
    )
    return record.to_json()


def _cut(task: Task, positions: int) -> str:
    """A note where a model of so many positions reads less of a task than others do."""
    length = task.length_within(positions)
    if length == task.max_length:
        return ""
    return f"sequences are cut at {length} tokens, the model's positions, and not at {task.max_length}"


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

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
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
    def kept(self) -> KeptCosts:
        """Costs that were measured. The first call waits for the server of processes."""
        if self._kept is None:
            from harness.isolation import await_server, start_server

            start_server()  # which imports what this process imports meanwhile
            from harness.profiling.kept_costs import KeptCosts

            await_server()
            self._kept = KeptCosts(self.workspace)
        return self._kept

    def make(self, cell: ProfileCell, data_dir: Path | None, threads: int, watch: Stopwatch) -> Made:
        """The cell's artifact and baseline, made in a process of their own unless this run has them."""
        from harness.isolation import run_isolated

        key = cell.model_dump_json(exclude={"workload", *_EXECUTION})
        known = self._made.get(key)
        if known is not None and known.folder.is_dir() and known.baseline.is_dir():
            return known
        asked = (cell.model_dump_json(), self.workspace, data_dir, threads, self._whole)
        self._made[key], own = run_isolated(make_for_profile, *asked)
        watch.add(own)
        return self._made[key]

    def rows(self, cell: ProfileCell, data_dir: Path | None, folder: Path) -> NDArray[np.int64]:
        """The cell's real inputs, in the tokens of the artifact in a folder. They are read once for all artifacts that
        share one.
        """
        from harness.isolation import run_isolated

        key = f"{folder} {cell.task_file or cell.task} {cell.workload.model_dump_json()}"
        if key not in self._rows:
            self._rows[key] = run_isolated(real_inputs, folder, cell.model_dump_json(), data_dir)
        return self._rows[key]

    def real_batches(self, cell: ProfileCell, data_dir: Path | None, made: Made) -> Batch | None:
        """The cell's real inputs as one batch; None where it has synthetic ones."""
        from harness.model import Batch

        if cell.workload.inputs == "synthetic":
            return None
        # Not every architecture has a tokenizer, and all are to read the same.
        tokens = made.folder if cell.workload.task is None else made.baseline
        return Batch.of_arrays(self.rows(cell, data_dir, tokens))

    def count(self, cell: ProfileCell, data_dir: Path | None, made: Made) -> None:
        """Count what needs no timing of a cell's artifact on its workload; its profile finds it kept."""
        from harness.profiling.inputs import Inputs
        from harness.profiling.profile import count_once

        count_once(made.folder, Inputs.of(cell.workload, self.real_batches(cell, data_dir, made)), self.kept)

    def sit(self, cell: ProfileCell, data_dir: Path | None, threads: int, share: float) -> None:
        """Take a sitting of a cell's pairs before its profile, for a `share` of its time cap, where its runtime loads
        in little time. Whatever is wrong with a cell is left for its profile to say.
        """
        from harness.isolation import IsolationError
        from harness.profiling.inputs import Inputs
        from harness.profiling.sittings import take_sitting, takes_sittings
        from harness.profiling.stopwatch import Stopwatch

        if not takes_sittings(cell):
            return
        with suppress(SkylineError, IsolationError):
            made = self.make(cell, data_dir, threads, Stopwatch())
            inputs = Inputs.of(cell.workload, self.real_batches(cell, data_dir, made))
            before = self._sittings.get(cell.key)
            self._sittings[cell.key] = take_sitting(cell, made.folder, made.baseline, inputs, share, before)

    def sat(self, cell: ProfileCell) -> Sitting | None:
        """The sittings that were taken of a cell; they are for one profile."""
        return self._sittings.pop(cell.key, None)

    def half_width(self, cell: ProfileCell) -> float:
        """Of the interval that a cell's sittings give so far (see `Sitting`); 0 where it took none."""
        sat = self._sittings.get(cell.key)
        return 0.0 if sat is None else sat.half_width

    @property
    def _whole(self) -> set[Path]:
        return {folder for made in self._made.values() for folder in (made.folder, made.baseline)}


def make_for_profile(
    cell_json: str, workspace: Path, data_dir: Path | None, threads: int, whole: set[Path]
) -> tuple[Made, Stopwatch]:
    """Make a profile cell's artifact and its baseline, but for those known to be `whole`, and describe the first,
    unless that was done. Runs in a process of its own; trainings use as many threads as those of quality cells.
    """
    from harness.profiling.kept_costs import KeptCosts, contents
    from harness.profiling.size import artifact_facts
    from harness.profiling.stopwatch import Stopwatch
    from harness.records import ArtifactFacts

    watch = Stopwatch()
    with watch.on("making"):
        folder, baseline, origin = build_for_profile(cell_json, workspace, data_dir, threads, whole)
    with watch.on("describing"):
        described = {"artifact": contents(folder), "isal": version("isal")}
        facts = KeptCosts(workspace).once(ArtifactFacts, described, lambda: artifact_facts(folder))
    return Made(folder, baseline, origin, facts), watch


def build_for_profile(
    cell_json: str, workspace: Path, data_dir: Path | None, threads: int, whole: Collection[Path] = ()
) -> tuple[Path, Path, str]:
    """A profile cell's artifact and its baseline: their folders, and what weights they hold."""
    import torch

    from harness.artifacts import read_config
    from harness.build import Builder, build_untrained

    torch.set_num_threads(threads)
    cell = ProfileCell.model_validate_json(cell_json)
    recipe = Recipe.parse(cell.recipe)
    if cell.task is None or cell.budget is None:
        folder, baseline = build_untrained(recipe, cell.model, workspace, cell.seed, whole)
    else:
        task = task_of(cell, data_dir)
        builder = Builder(workspace, cell.model, task, cell.seed, cell.budget, cell.trained_on)
        folder, baseline = builder.build(recipe).folder, builder.build(Recipe()).folder
    return folder, baseline, read_config(folder).origin


def real_inputs(folder: Path, cell_json: str, data_dir: Path | None) -> NDArray[np.int64]:
    """Rows of a profile cell's task, or of its workload's, from the dev split, in the tokens of an artifact (see
    `real_rows`). Runs in a process of its own. Raises SkylineError where neither has a task.
    """
    from harness.profiling.inputs import real_rows

    cell = ProfileCell.model_validate_json(cell_json)
    rows_of = cell.workload.task
    if cell.task is None and rows_of is None:
        raise SkylineError("real inputs are a task's, and this profile has none; use synthetic ones")
    examples = (task_of(cell, data_dir) if rows_of is None else load_task(rows_of, data_dir)).dev()
    pairs = [example.pair or "" for example in examples]
    texts = [example.text for example in examples]
    return real_rows(folder, texts, pairs if any(pairs) else None, cell.workload).arrays()


def execute_profile(
    cell: ProfileCell,
    workspace: Path,
    data_dir: Path | None,
    stamp: str,
    threads: int = 1,
    timed: Callable[[Speed], None] | None = None,
    run: ProfileRun | None = None,
    share: float = 1.0,
) -> Record:
    """Measure one profile cell. Called in the launching process, which only waits: each measurement has its
    own child. `timed` is given the paired run with its single passes; `run` has what cells before this one made in the
    same workspace, and keeps what this one makes. A cell of which it has sittings is timed for a `share` of its time
    cap, as in each of those.
    """
    if run is None:
        with ProfileRun(workspace) as alone:
            return execute_profile(cell, workspace, data_dir, stamp, threads, timed, alone, share)
    kept = run.kept
    from harness.profiling.profile import profile_artifact
    from harness.profiling.stopwatch import Stopwatch

    started, began, watch = time.time(), time.perf_counter(), Stopwatch()
    if (sat := run.sat(cell)) is not None:
        began -= sat.whole_s
        watch.add(sat.watch)
    made = run.make(cell, data_dir, threads, watch)
    profile = profile_artifact(
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
        real_batches=run.real_batches(cell, data_dir, made),
        timed=timed,
        earlier=None if sat is None else sat.times,
        share=1.0 if sat is None else share,
        kept=kept,
        watch=watch,
    )
    return make_record(
        cell,
        stamp,
        started,
        artifact=made.facts,
        profile=profile,
        weights=made.origin,
        spent=watch.spent(time.perf_counter() - began),
    )
