"""Select the cells that `pytest --benchmark` measures: every recipe × runtime × workload that its options name."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.common.errors import Code, SkylineError, unknown_name
from harness.common.lazy import lazy_imports
from harness.recipes.discovery import discover
from harness.recipes.recipe import BASELINE, Recipe
from harness.records.cells import ProfileCell
from harness.records.schema import Precision, Workload, precision_named
from harness.runs.limits import MAX_BATCH, MAX_TIME_CAP_S, MIN_TIME_CAP_S, within
from harness.runtimes import runtime_names

with lazy_imports():
    from harness.models import checkpoints


MODEL, TIME_CAP_S = "bert-base", 20.0
TINY_MODEL, TINY_TIME_CAP_S = "bert-tiny", 0.5
"""Defaults with `--benchmark-tiny`."""
RUNTIME, WORKLOAD = "eager", "1x128"
_WORKLOAD = re.compile(r"([0-9]{1,9})[x×]([0-9]{1,9})")


@dataclass(frozen=True)
class Selection:
    """The values of the options, not parsed yet.

    `methods` are ids or adapter files, `runtimes` have the form `NAME` or `NAME:PRECISION`, `workloads` the form
    `BATCHxLENGTH`. `usual_recipes` are measured if there are neither recipes nor methods.
    """

    recipes: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = (RUNTIME,)
    workloads: tuple[str, ...] = (WORKLOAD,)
    device: str = "cpu"
    model: str = MODEL
    time_cap_s: float = TIME_CAP_S

    def cells(self) -> list[ProfileCell]:
        """Return the cells, without repeats. Raises SkylineError for an option that cannot be parsed, an unknown name,
        or a number out of range.
        """
        # First the checks that do not load torch.
        executions = [parse_execution(runtime) for runtime in self.runtimes]
        workloads = [parse_workload(workload) for workload in self.workloads]
        within("benchmark-time-cap", self.time_cap_s, MIN_TIME_CAP_S, MAX_TIME_CAP_S)
        recipes = [Recipe.parse(recipe) for recipe in self.recipes]
        recipes += [Recipe.parse(method) for method in self._bare_methods(recipes)]
        recipes = recipes or usual_recipes(self.model)
        cells = [
            ProfileCell(
                recipe=str(recipe),
                model=self.model,
                runtime=runtime,
                precision=precision,
                device=self.device,
                workload=workload,
                time_cap_s=self.time_cap_s,
            )
            for workload in workloads
            for runtime, precision in executions
            for recipe in recipes
        ]
        return list({cell.key: cell for cell in cells}.values())

    def _bare_methods(self, recipes: Sequence[Recipe]) -> list[str]:
        """Return the methods that no recipe uses. They are measured with their default options."""
        used = {call.id for recipe in recipes for call in recipe.calls}
        named = [method_id(method) for method in self.methods]
        return [name for name in dict.fromkeys(named) if name not in used]


def usual_recipes(model: str) -> list[Recipe]:
    """Return the default recipes: the baseline against itself, int8, half of the layers, and two kinds of sparsity.

    Raises SkylineError for an unknown model.
    """
    half = max(1, len(checkpoints.base_config(model).layers) // 2)
    recipes = (
        BASELINE,
        "dynamic-int8",
        f"kd-logits:layers={half}",
        "magnitude:sparsity=0.6",
        "random-pruning:sparsity=0.6",
    )
    return [Recipe.parse(recipe) for recipe in recipes]


def label(cell: ProfileCell) -> str:
    """Return the test id of a cell. It is the same in every run, so that pytest-benchmark can compare runs."""
    recipe = cell.recipe.replace(" ", "")
    return f"{recipe}-{execution_text(cell)}-{workload_text(cell)}-{cell.model}-{cell.device}"


def execution_text(cell: ProfileCell) -> str:
    """Write a cell's runtime and precision in the form that `parse_execution` reads."""
    return cell.runtime if cell.precision == "float32" else f"{cell.runtime}:{cell.precision}"


def workload_text(cell: ProfileCell) -> str:
    """Write a cell's workload in the form that `parse_workload` reads."""
    return f"{cell.workload.batch}x{cell.workload.length}"


def parse_execution(text: str) -> tuple[str, Precision]:
    """Parse `RUNTIME` or `RUNTIME:PRECISION`. Raises SkylineError (`unknown-name`) for an unknown one."""
    runtime, colon, precision = text.strip().partition(":")
    if runtime not in runtime_names():
        raise unknown_name("runtime", runtime, runtime_names())
    return runtime, precision_named(precision) if colon else "float32"


def parse_workload(text: str) -> Workload:
    """Parse `BATCHxLENGTH`. Raises SkylineError for another form (`invalid`) or a number out of range."""
    match = _WORKLOAD.fullmatch(text.strip())
    if match is None:
        raise SkylineError(
            f"cannot read the workload '{text}'; write BATCHxLENGTH, such as {WORKLOAD}", Code.INVALID
        )
    batch, length = int(match[1]), int(match[2])
    if not 1 <= batch <= MAX_BATCH:
        raise SkylineError(f"batch size {batch} is out of range; use 1 to {MAX_BATCH:,}", Code.OUT_OF_RANGE)
    if length < 1:
        raise SkylineError(f"sequence length {length} is out of range; use at least 1", Code.OUT_OF_RANGE)
    return Workload(batch=batch, length=length)


def is_file(method: str) -> bool:
    """Return whether `method` is a path of an adapter file, not an id."""
    return method.endswith(".py") or os.sep in method


def adapter_files_of(methods: Iterable[str], folder: Path) -> list[Path]:
    """Return the adapter files among `methods`. Relative paths begin at `folder`.

    Raises SkylineError (`not-found`) if a file does not exist.
    """
    paths = [folder / method for method in methods if is_file(method)]
    for path in paths:
        if not path.is_file():
            raise SkylineError(
                f"there is no adapter file {path}; give a method's id or its .py file", Code.NOT_FOUND
            )
    return list(dict.fromkeys(path.resolve() for path in paths))


def method_id(method: str) -> str:
    """Return the id of a method, given its id or its adapter file. SKYLINE_METHODS must contain the file.

    Raises SkylineError for an unknown id (`unknown-name`), a file that cannot be loaded (`unreadable`), and a file
    without a method (`wrong-kind`).
    """
    registry = discover()
    if not is_file(method):
        return registry.get(method).card.id
    path = Path(method).resolve()
    for source, problem in registry.problems.items():
        if Path(source).is_absolute() and Path(source).resolve() == path:
            raise SkylineError(f"{method}: {problem}", Code.UNREADABLE)
    for identity, found in registry.methods.items():
        if found.path is not None and found.path.resolve() == path:
            return identity
    raise SkylineError(f"{method} does not define a method; run 'skyline check' on it", Code.WRONG_KIND)
