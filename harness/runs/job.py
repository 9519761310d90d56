"""A job: a cell with everything that its text stands for, and whether it can run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from harness.common.errors import Code, SkylineError, Unsupported
from harness.common.hardware import check_device
from harness.models.shape_checks import check_length
from harness.records.cells import Cell, ProfileCell
from harness.runtimes.support import check_support

if TYPE_CHECKING:
    from harness.common.hardware import Hardware
    from harness.compression.comparable import Shape
    from harness.models.config import EncoderConfig
    from harness.recipes.recipe import Recipe
    from harness.runtimes import Runtime
    from harness.tasks.base import Task


@dataclass(frozen=True)
class Build:
    """An artifact that a job needs: its recipe, and the fingerprint of all that it depends on."""

    recipe: Recipe
    fingerprint: str

    @property
    def trains(self) -> bool:
        """Whether making it, once what it is built on is there, takes a training."""
        return self.recipe.is_baseline or self.recipe.stages[-1].trains


@dataclass(frozen=True)
class Job:
    """A cell that was resolved (see `harness.runs.resolution`): whatever plans and runs it reads this."""

    cell: Cell
    recipe: Recipe
    task: Task | None
    """What the artifact is trained on; None for an untrained one."""
    runtime: Runtime | None
    """What executes a profile; None for a score."""
    base: EncoderConfig
    shape: Shape
    """What the recipe makes of the base model, as far as it is known before training."""
    lineage: tuple[Build, ...]
    """The cell's artifact, then what that is built on, the nearest first and the baseline last. An untrained artifact
    stands alone.
    """
    fingerprint: str
    """What the record depends on."""
    hardware: Hardware
    """The machine that the record belongs to."""

    @property
    def trained(self) -> bool:
        """Whether the cell's artifact is a trained one."""
        return self.task is not None and self.cell.budget is not None

    @cached_property
    def refusal(self) -> SkylineError | None:
        """What `supports` says of it."""
        return supports(self)

    @property
    def unsupported(self) -> str | None:
        """Why its runtime is not made for it: it is recorded as skipped. None for every other job."""
        return str(self.refusal) if isinstance(self.refusal, Unsupported) else None


def supports(job: Job) -> SkylineError | None:
    """Why a job cannot run, as far as that is known before its artifact is made. None where it can.

    An `Unsupported` is a limit of the runtime; the other jobs of a run go on. Every other error is a mistake of the
    user, for which nothing of the run starts.
    """
    try:
        _check(job)
    except SkylineError as error:
        return error
    return None


def _check(job: Job) -> None:
    cell = job.cell
    if job.task is not None:
        if job.recipe.start is not None:
            raise SkylineError(
                f"'{cell.recipe}' starts from an architecture without weights, so it can be profiled, not trained; "
                "name a method instead",
                Code.CONFLICT,
            )
        job.task.length_within(job.base.positions)
    check_device(cell.trained_on)
    if isinstance(cell, ProfileCell) and job.runtime is not None:
        # The baseline, which has the base model's positions, is timed on the same workload.
        check_length(cell.workload.length, job.base.positions, cell.model)
        check_support(job.runtime, cell.precision, cell.device, cell.workload, job.shape)
