"""Which cells `pytest --benchmark` measures: every recipe × runtime × workload that its options choose."""

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
"""What `--benchmark-tiny` puts in their place."""
RUNTIME, WORKLOAD = "eager", "1x128"
_WORKLOAD = re.compile(r"([0-9]{1,9})[x×]([0-9]{1,9})")


@dataclass(frozen=True)
class Selection:
    """What the options ask for, as they say it. Methods are ids or adapter files, runtimes `NAME` or
    `NAME:PRECISION`, workloads `BATCHxLENGTH`; where nothing is said of recipes and methods, the usual ones are meant.
    """

    recipes: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = (RUNTIME,)
    workloads: tuple[str, ...] = (WORKLOAD,)
    device: str = "cpu"
    model: str = MODEL
    time_cap_s: float = TIME_CAP_S

    def cells(self) -> list[ProfileCell]:
        """The cells, each once. Raises SkylineError for what cannot be read, and for unknown names."""
        # First what can be said without loading torch.
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
        """The methods that no recipe uses: these are measured with their default options."""
        used = {call.id for recipe in recipes for call in recipe.calls}
        named = [method_id(method) for method in self.methods]
        return [name for name in dict.fromkeys(named) if name not in used]


def usual_recipes(model: str) -> list[Recipe]:
    """What is measured where no recipe is named: the baseline against itself, int8, half of the layers, and the same
    sparsity with and without structure. Raises SkylineError for an unknown model.
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
    """A cell's name within the suite: the same in every run, so that runs can be compared."""
    recipe = cell.recipe.replace(" ", "")
    return f"{recipe}-{execution_text(cell)}-{workload_text(cell)}-{cell.model}-{cell.device}"


def execution_text(cell: ProfileCell) -> str:
    """A cell's runtime and precision, as `parse_execution` reads them."""
    return cell.runtime if cell.precision == "float32" else f"{cell.runtime}:{cell.precision}"


def workload_text(cell: ProfileCell) -> str:
    """A cell's workload, as `parse_workload` reads it."""
    return f"{cell.workload.batch}x{cell.workload.length}"


def parse_execution(text: str) -> tuple[str, Precision]:
    """Read `RUNTIME` or `RUNTIME:PRECISION`. Raises SkylineError (with the nearest name) for an unknown one."""
    runtime, colon, precision = text.strip().partition(":")
    if runtime not in runtime_names():
        raise unknown_name("runtime", runtime, runtime_names())
    return runtime, precision_named(precision) if colon else "float32"


def parse_workload(text: str) -> Workload:
    """Read `BATCHxLENGTH`. Raises SkylineError where it is none or a number is out of range."""
    match = _WORKLOAD.fullmatch(text.strip())
    if match is None:
        raise SkylineError(
            f"cannot read the workload '{text}'; write BATCHxLENGTH, as in {WORKLOAD}", Code.INVALID
        )
    batch, length = int(match[1]), int(match[2])
    if not 1 <= batch <= MAX_BATCH:
        raise SkylineError(f"batch size {batch} is out of range; use 1 to {MAX_BATCH:,}", Code.OUT_OF_RANGE)
    if length < 1:
        raise SkylineError(f"sequence length {length} is out of range; use at least 1", Code.OUT_OF_RANGE)
    return Workload(batch=batch, length=length)


def is_file(method: str) -> bool:
    """Whether a method is named by its adapter file."""
    return method.endswith(".py") or os.sep in method


def adapter_files_of(methods: Iterable[str], folder: Path) -> list[Path]:
    """The adapter files among `methods`; relative ones stand under `folder`. Raises SkylineError where one is not
    there.
    """
    paths = [folder / method for method in methods if is_file(method)]
    for path in paths:
        if not path.is_file():
            raise SkylineError(
                f"there is no adapter file {path}; name a method's .py file, or its id", Code.NOT_FOUND
            )
    return list(dict.fromkeys(path.resolve() for path in paths))


def method_id(method: str) -> str:
    """The id of a method that is named by its id or by its adapter file, which SKYLINE_METHODS has to name as well.

    Raises SkylineError for an unknown id, and a file that defines no method that can be used.
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
    raise SkylineError(
        f"{method} is no method's file that can be used; run 'skyline check' on it", Code.WRONG_KIND
    )
