"""Suites: TOML files that list the cells of an experiment."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.cells import BudgetSpec, Cell, ProfileCell, QualityCell
from harness.errors import SkylineError, nearest, unknown_name
from harness.recipe import Recipe
from harness.records import Workload
from harness.tasks import load_task

Names = Annotated[tuple[str, ...], Field(min_length=1)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Experiment(_Table):
    """Recipes trained and scored on tasks: every recipe × task × seed."""

    tasks: Names
    recipes: Names
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0,)
    budget: BudgetSpec = BudgetSpec()
    profile: bool = True


class Profiling(_Table):
    """Recipes profiled without training: every recipe × workload."""

    recipes: Names
    workloads: Annotated[tuple[tuple[int, int], ...], Field(min_length=1)] = ((1, 128),)


class Suite(_Table):
    """What a suite file says. `time_cap_s` bounds the timing of one profile; `workload` is that of the
    trained artifacts.
    """

    title: str
    model: str = "minilm-l6"
    profile_model: str = "bert-base"
    runtime: str = "eager"
    device: str = "cpu"
    workload: tuple[int, int] = (1, 128)
    time_cap_s: Annotated[float, Field(gt=0)] = 20.0
    experiments: tuple[Experiment, ...] = ()
    profiling: tuple[Profiling, ...] = ()

    def cells(self, data_dir: Path | None = None) -> list[Cell]:
        """The cells in the order of the file, parents before what is built on them, each once.

        Raises SkylineError for a recipe, task or budget that is not valid, and for a task without data.
        """
        found: dict[str, Cell] = {}
        for profiling in self.profiling:
            for recipe in ("baseline", *profiling.recipes):
                for batch, length in profiling.workloads:
                    cell: Cell = ProfileCell(
                        recipe=str(Recipe.parse(recipe)),
                        model=self.profile_model,
                        runtime=self.runtime,
                        device=self.device,
                        workload=Workload(batch=batch, length=length),
                        time_cap_s=self.time_cap_s,
                    )
                    found.setdefault(cell.key, cell)
        for experiment in self.experiments:
            for cell in self._experiment_cells(experiment, data_dir):
                found.setdefault(cell.key, cell)
        return list(found.values())

    def _experiment_cells(self, experiment: Experiment, data_dir: Path | None) -> list[Cell]:
        from harness.build import check_budget

        check_budget(experiment.budget)
        quality: list[Cell] = []
        profiles: list[Cell] = []
        for task in (_task_name(name, data_dir) for name in experiment.tasks):
            for seed in experiment.seeds:
                for recipe in with_parents(experiment.recipes):
                    shared: dict[str, Any] = {
                        "recipe": str(recipe),
                        "model": self.model,
                        "task": task,
                        "seed": seed,
                    }
                    quality.append(QualityCell(**shared, budget=experiment.budget))
                    if experiment.profile and seed == experiment.seeds[0]:
                        batch, length = self.workload
                        profiles.append(
                            ProfileCell(
                                **shared,
                                budget=experiment.budget,
                                runtime=self.runtime,
                                device=self.device,
                                workload=Workload(batch=batch, length=length),
                                time_cap_s=self.time_cap_s,
                            )
                        )
        return quality + profiles


def _task_name(name: str, data_dir: Path | None) -> str:
    # A task described in TOML is found by its file again in the cell's process; the others by their id.
    task = load_task(name, data_dir)
    return name if name.lower().endswith(".toml") else task.name


def with_parents(recipes: Sequence[str]) -> list[Recipe]:
    """The recipes and all that they build on, the baseline first, each once."""
    found: dict[str, Recipe] = {"baseline": Recipe()}
    for text in recipes:
        chain = [Recipe.parse(text)]
        while (parent := chain[-1].parent) is not None:
            chain.append(parent)
        for recipe in reversed(chain):
            found.setdefault(str(recipe), recipe)
    return list(found.values())


def chosen_suite(
    name: str | None,
    recipes: Sequence[str] | None,
    model: str | None,
    tasks: Sequence[str] | None,
    seeds: int | None,
    budget: dict[str, Any],
    profile: bool,
) -> Suite:
    """The suite of that name, or one made of recipes and tasks; what is given replaces what the suite says.

    Raises SkylineError where neither a suite nor recipe and task are given.
    """
    if seeds is not None and seeds < 1:
        raise SkylineError(f"--seeds {seeds} is out of range: use at least 1")
    if name is None:
        if not recipes or not tasks:
            raise SkylineError(f"name a suite ({', '.join(suite_names())}), or give --recipe and --task")
        spec = BudgetSpec(baseline=budget, recipe=budget)
        experiment = Experiment(
            tasks=tuple(tasks),
            recipes=tuple(recipes),
            seeds=tuple(range(seeds or 1)),
            budget=spec,
            profile=profile,
        )
        return Suite(
            title="chosen on the command line", model=model or "minilm-l6", experiments=(experiment,)
        )
    if recipes or tasks:
        raise SkylineError(
            "a suite names its own recipes and tasks; leave out --recipe and --task, or the suite"
        )
    suite = load_suite(name)
    experiments = tuple(
        experiment.model_copy(
            update={
                "profile": experiment.profile and profile,
                "seeds": experiment.seeds if seeds is None else tuple(range(seeds)),
                "budget": BudgetSpec(
                    baseline={**experiment.budget.baseline, **budget},
                    recipe={**experiment.budget.recipe, **budget},
                ),
            }
        )
        for experiment in suite.experiments
    )
    return suite.model_copy(update={"experiments": experiments, "model": model or suite.model})


def suite_names() -> list[str]:
    """The names of the built-in suites."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.toml"))


def load_suite(name: str) -> Suite:
    """Read a suite: a built-in name, or the path of a TOML file. Raises SkylineError naming the key that is
    wrong.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = Path(__file__).parent / f"{name}.toml"
        if not path.is_file():
            raise unknown_name("suite", name, suite_names())
    return parse_suite(path)


def parse_suite(path: Path) -> Suite:
    """Read a suite file."""
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SkylineError(f"there is no suite {path}; built-in suites: {', '.join(suite_names())}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SkylineError(f"{path} is no TOML: {error}") from None
    try:
        return Suite.model_validate(data)
    except ValidationError as error:
        unknown = [found for found in error.errors() if found["type"] == "extra_forbidden"]
        first = (unknown or error.errors())[0]  # a mistyped key also leaves one missing
        where = ".".join(str(part) for part in first["loc"])
        hint = nearest(
            str(first["loc"][-1]), [*Suite.model_fields, *Experiment.model_fields, *Profiling.model_fields]
        )
        suffix = f"; did you mean '{hint}'?" if first["type"] == "extra_forbidden" and hint else ""
        raise SkylineError(f"{path}: {where}: {first['msg']}{suffix}") from None
