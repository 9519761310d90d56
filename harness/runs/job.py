"""A job: a cell together with everything that its text names (recipe, task, runtime, …), and whether it can run."""

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
    """An artifact that a job needs: its recipe, and a fingerprint of everything that determines its content."""

    recipe: Recipe
    fingerprint: str

    @property
    def trains(self) -> bool:
        """Whether the last stage of the recipe trains. The stages before it belong to the parent's build."""
        return self.recipe.is_baseline or self.recipe.stages[-1].trains


@dataclass(frozen=True)
class Job:
    """A resolved cell. `harness.runs.resolution` makes it; planning and engines read it and resolve nothing again."""

    cell: Cell
    recipe: Recipe
    task: Task | None
    """The task that the artifact is trained on; None for an untrained artifact."""
    runtime: Runtime | None
    """The runtime that executes a profile; None for a quality cell."""
    base: EncoderConfig
    """Configuration of the base model."""
    shape: Shape
    """Shape of the compressed model, as far as it is known before training."""
    lineage: tuple[Build, ...]
    """The cell's artifact, its parent, the parent's parent, and so on to the baseline. An untrained artifact has no
    parents here.
    """
    fingerprint: str
    """Hash of everything that makes the record stale."""
    hardware: Hardware
    """The machine under which the record is stored."""

    @property
    def trained(self) -> bool:
        """Whether the cell's artifact is trained."""
        return self.task is not None and self.cell.budget is not None

    @cached_property
    def refusal(self) -> SkylineError | None:
        """The answer of `supports`, asked once."""
        return supports(self)

    @property
    def unsupported(self) -> str | None:
        """The reason if the job's runtime does not support it (a run then records it as skipped), else None."""
        return str(self.refusal) if isinstance(self.refusal, Unsupported) else None


def supports(job: Job) -> SkylineError | None:
    """Return the reason why a job cannot run, or None if nothing that is known before its artifact is built forbids it.

    If the reason is an `Unsupported`, the runtime has a limit, and the other jobs of the run go on. Any other error is
    a mistake of the user, and the run must not start.
    """
    cell = job.cell
    if job.task is not None and job.recipe.start is not None:
        return SkylineError(
            f"'{cell.recipe}' starts from an architecture without weights, so it can only be profiled; "
            "use a method to train",
            Code.CONFLICT,
        )
    try:
        if job.task is not None:
            job.task.length_within(job.base.positions)
        check_device(cell.trained_on)
        if isinstance(cell, ProfileCell) and job.runtime is not None:
            # The baseline is timed on the same workload, and it has the base model's positions.
            check_length(cell.workload.length, job.base.positions, cell.model)
            check_support(job.runtime, cell.precision, cell.device, cell.workload, job.shape)
    except SkylineError as error:
        return error
    return None
