"""Plan a run: resolve and check its cells, compare them with the stored records, and list the jobs that are left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from harness.common.errors import Code, SkylineError, Unsupported, unknown_name
from harness.common.lazy import lazy_imports
from harness.records.cells import Cell, ProfileCell
from harness.records.store import Store
from harness.runs.job import Build, Job
from harness.runs.resolution import Resolver

with lazy_imports():
    from harness.models import checkpoints


if TYPE_CHECKING:
    from harness.records.schema import Record

ENGINES = ("local",)


@dataclass
class Plan:
    """The `jobs` that a run has to do, and the `fresh` records, which it keeps."""

    jobs: list[Job] = field(default_factory=list)
    fresh: list[Record] = field(default_factory=list)


def check_engine(engine: str, workers: int) -> None:
    """Raise SkylineError for an unknown engine (`unknown-name`), or for fewer than one worker (`out-of-range`)."""
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)
    if workers < 1:
        raise SkylineError(f"--workers {workers} is out of range: use at least 1", Code.OUT_OF_RANGE)


def resolve_cells(cells: Sequence[Cell], data_dir: Path | None = None) -> list[Job]:
    """Return the jobs of a run, in the order of its cells.

    Raises SkylineError if a base model does not load, and the errors of `Resolver.job` and `supports`. A job that its
    runtime does not support (`Job.unsupported`) raises nothing. The weights of checkpoints are hashed, not loaded.
    """
    for model in dict.fromkeys(cell.model for cell in cells):
        reads = any(cell.model == model and _reads_texts(cell) for cell in cells)
        checkpoints.check_base_model(model, needs_tokenizer=reads)
    resolver = Resolver(data_dir)
    jobs = [resolver.job(cell) for cell in cells]
    for job in jobs:
        if job.refusal is not None and not isinstance(job.refusal, Unsupported):
            raise job.refusal
    return jobs


def _reads_texts(cell: Cell) -> bool:
    return cell.task is not None or (isinstance(cell, ProfileCell) and cell.workload.task is not None)


def make_plan(jobs: Sequence[Job], store: Store, *, want_verdicts: bool = False) -> Plan:
    """Compare jobs with the store. A job has to run if its record is missing, is not `ok` or has another fingerprint;
    with `want_verdicts` also if its profile has no verdict on the speedup.
    """
    plan = Plan()
    for job in jobs:
        record = store.find(job.cell, job.hardware.id)
        if (
            record is None
            or record.status != "ok"
            or record.provenance.fingerprint != job.fingerprint
            or (want_verdicts and has_no_verdict(record))
        ):
            plan.jobs.append(job)
        else:
            plan.fresh.append(record)
    return plan


def has_no_verdict(record: Record) -> bool:
    """Return whether the record is a profile whose confidence interval stayed too wide for a speedup."""
    latency = None if record.profile is None else record.profile.latency
    return latency is not None and latency.verdict == "none"


def count_trainings(plan: Plan, store: Store) -> int:
    """Return how many trainings a plan takes. Each training stage whose artifact is missing counts once.

    A profile needs its artifact and its baseline, as a score does. The parents of an existing artifact are not needed.
    """
    is_missing = _missing_in(store)
    missing = {build.fingerprint: build for job in plan.jobs for build in _needed(job, is_missing)}
    return sum(build.trains for build in missing.values())


def without_training(plan: Plan, store: Store) -> Plan:
    """Return the plan without the jobs that would train: those whose artifacts, or what they need, are missing."""
    is_missing = _missing_in(store)
    jobs = [job for job in plan.jobs if not any(build.trains for build in _needed(job, is_missing))]
    return Plan(jobs, plan.fresh)


def _missing_in(store: Store) -> Callable[[Build], bool]:
    """Return a function that says whether an artifact is missing in the store's workspace."""

    @cache
    def is_missing(build: Build) -> bool:
        folder = store.workspace / "artifacts" / build.fingerprint[:20]
        return not (folder.is_dir() and folder.with_suffix(".training.json").is_file())

    return is_missing


def _needed(job: Job, is_missing: Callable[[Build], bool]) -> list[Build]:
    """List the missing artifacts that a job needs, itself first."""
    if not job.trained:
        return []
    *chain, baseline = job.lineage
    needed = list(takewhile(is_missing, chain))
    # The baseline is the teacher of every stage, and every profile is timed against it.
    if needed or not chain or isinstance(job.cell, ProfileCell):
        needed += filter(is_missing, [baseline])
    return needed
