"""Suites: TOML files that list the cells of an experiment."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness.common.errors import Code, SkylineError, unknown_name
from harness.common.lazy import lazy_imports
from harness.common.validation import first_fault
from harness.recipes.recipe import Recipe
from harness.records.cells import BudgetSpec, Cell, ProfileCell, QualityCell, Split, task_fields
from harness.records.schema import Precision, Workload
from harness.runs import protocols
from harness.runs.limits import MAX_BATCH, MAX_SEED, MAX_SEEDS, MAX_TIME_CAP_S, MIN_TIME_CAP_S, within
from harness.tasks import load_task

with lazy_imports():
    from harness.compression import context
    from harness.recipes import builder


Names = Annotated[tuple[str, ...], Field(min_length=1)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
TimeCap = Annotated[float, Field(ge=MIN_TIME_CAP_S, le=MAX_TIME_CAP_S, allow_inf_nan=False)]
BatchAndLength = tuple[Annotated[int, Field(ge=1, le=MAX_BATCH)], Annotated[int, Field(ge=1)]]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Experiment(_Table):
    """Recipes that are trained and scored: every recipe × task × seed, by the budget of a `protocol` or by a `budget`.

    With `profile`, the artifacts of the first seed are profiled too, on every workload under every runtime; by default
    on the suite's, with `inputs` (`real`: rows of the task's dev split), under the suite's runtime. Recipes whose cost
    depends on the row read real rows then.

    With `split` "held-out" a slice of the training set is scored, and nothing is profiled. Then `try_rates` trains
    every recipe at each rate of the protocol's grid.
    """

    tasks: Names
    recipes: Names
    model: str | None = None
    """The base model; by default the suite's."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    budget: BudgetSpec = BudgetSpec()
    protocol: str | None = None
    split: Split = "dev"
    try_rates: bool = False
    profile: bool = True
    inputs: Literal["synthetic", "real"] = "synthetic"
    workloads: tuple[Workload, ...] = ()
    runtimes: Names | None = None

    @field_validator("workloads")
    @classmethod
    def _batches_fit(cls, workloads: tuple[Workload, ...]) -> tuple[Workload, ...]:
        if any(workload.batch > MAX_BATCH for workload in workloads):
            raise ValueError(f"a batch has at most {MAX_BATCH} rows")
        return workloads

    @model_validator(mode="after")
    def _budget_is_said_once(self) -> Experiment:
        if self.protocol is not None and self.budget != BudgetSpec():
            raise ValueError("a protocol sets the budget; leave out one of protocol and budget")
        if self.try_rates and (self.protocol is None or self.split == "dev"):
            raise ValueError('rates are tried under a protocol and on split = "held-out" only')
        return self

    def budgets(self, recipe: Recipe, task: str) -> list[BudgetSpec]:
        """Return the budgets under which a recipe is trained on a task: one, or one for each rate of the grid."""
        if self.protocol is None:
            return [self.budget]
        protocol = protocols.load_protocol(self.protocol)
        own = protocol.budget(str(recipe), task)
        if not (self.try_rates and own.recipe):
            return [own]
        return [
            own.model_copy(update={"recipe": {**own.recipe, "learning_rate": rate}}) for rate in protocol.grid
        ]


class Profiling(_Table):
    """Recipes that are profiled without training: every recipe × workload × runtime × precision.

    `cached` has the meaning of `Workload.cached`. `runtimes` and `time_cap_s` (seconds) are by default the suite's.
    """

    recipes: Names
    workloads: Annotated[tuple[BatchAndLength, ...], Field(min_length=1)] = ((1, 128),)
    cached: Annotated[int, Field(ge=1)] | None = None
    runtimes: Names | None = None
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)] = ("float32",)
    time_cap_s: TimeCap | None = None


class Suite(_Table):
    """The content of a suite file.

    `workload` is (batch, sequence length) for profiles of trained artifacts; `time_cap_s` limits the paired timing of
    one profile, in seconds.
    """

    title: str
    model: str = "minilm-l6"
    profile_model: str = "bert-base"
    runtime: str = "eager"
    device: str = "cpu"
    """Device that profiles artifacts."""
    train_on: str = "cpu"
    """Device that trains artifacts."""
    workload: BatchAndLength = (1, 128)
    time_cap_s: TimeCap = 20.0
    experiments: tuple[Experiment, ...] = ()
    profiling: tuple[Profiling, ...] = ()

    def cells(self, data_dir: Path | None = None) -> list[Cell]:
        """Return the cells in the order of the file, without repeats. Parents stand before the recipes built on them.

        Raises SkylineError for a recipe, task or budget that is not valid, and for a task without data.
        """
        found: dict[str, Cell] = {}
        for profiling in self.profiling:
            for cell in self._profiling_cells(profiling):
                found.setdefault(cell.key, cell)
        for experiment in self.experiments:
            for cell in self._experiment_cells(experiment, data_dir):
                found.setdefault(cell.key, cell)
        return list(found.values())

    def _profiling_cells(self, profiling: Profiling) -> Iterator[Cell]:
        # A baseline cannot use cached states, so a cached workload needs no profile of the baseline.
        recipes = ("baseline", *profiling.recipes) if profiling.cached is None else profiling.recipes
        own_cap = profiling.time_cap_s or self.time_cap_s
        for runtime, precision in product(profiling.runtimes or (self.runtime,), profiling.precisions):
            for recipe, (batch, length) in product(recipes, profiling.workloads):
                yield ProfileCell(
                    recipe=str(Recipe.parse(recipe)),
                    model=self.profile_model,
                    runtime=runtime,
                    precision=precision,
                    device=self.device,
                    workload=Workload(batch=batch, length=length, cached=profiling.cached),
                    # All [[profiling]] tables share one profile of the baseline, so it gets the suite's time cap.
                    time_cap_s=self.time_cap_s if recipe == "baseline" else own_cap,
                )

    def _experiment_cells(self, experiment: Experiment, data_dir: Path | None) -> list[Cell]:
        quality: list[Cell] = []
        profiles: list[Cell] = []
        recipes = with_parents(experiment.recipes)
        for task in (task_fields(name, load_task(name, data_dir)) for name in experiment.tasks):
            for seed, recipe in product(experiment.seeds, recipes):
                for budget in experiment.budgets(recipe, task["task"]):
                    builder.check_budget(budget)
                    shared: dict[str, Any] = {
                        "recipe": str(recipe),
                        "model": experiment.model or self.model,
                        "seed": seed,
                        "trained_on": self.train_on,
                        "budget": budget,
                        "protocol": experiment.protocol,
                        **task,
                    }
                    quality.append(QualityCell(**shared, split=experiment.split))
                    if experiment.profile and experiment.split == "dev" and seed == experiment.seeds[0]:
                        profiles += self._profiles_of_trained(experiment, recipe, shared)
        return quality + profiles

    def _profiles_of_trained(
        self, experiment: Experiment, recipe: Recipe, shared: dict[str, Any]
    ) -> Iterator[ProfileCell]:
        batch, length = self.workload
        inputs = "real" if recipe.input_dependent else experiment.inputs
        usual = (Workload(batch=batch, length=length, inputs=inputs),)
        for workload, runtime in product(
            experiment.workloads or usual, experiment.runtimes or (self.runtime,)
        ):
            yield ProfileCell(
                **shared,
                runtime=runtime,
                device=self.device,
                workload=workload,
                time_cap_s=self.time_cap_s,
            )


def with_parents(recipes: Sequence[str]) -> list[Recipe]:
    """Parse recipes, and add the recipes that they build on. The baseline comes first, and each recipe once."""
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
    device: str | None = None,
    train_on: str | None = None,
) -> Suite:
    """Return the suite `name`, or make one from recipes and tasks. Options that are given replace the suite's values.

    For a suite that only profiles, `model` is the profiled model. Raises SkylineError if neither a suite nor recipes
    and tasks are given (`incomplete`), if both are, or if an option would change nothing (`conflict`), and for a value
    out of range.
    """
    if seeds is not None:
        within("seeds", seeds, 1, MAX_SEEDS)
    _check_options(budget)
    given = {"device": device, "train_on": train_on}
    devices = {option: value for option, value in given.items() if value is not None}
    if name is None:
        if not recipes or not tasks:
            raise SkylineError(
                f"name a suite ({', '.join(suite_names())}), or give --recipe and --task", Code.INCOMPLETE
            )
        experiment = Experiment(tasks=tuple(tasks), recipes=tuple(recipes))
        suite = Suite(title="chosen on the command line", experiments=(experiment,))
    elif recipes or tasks:
        raise SkylineError(
            "a suite has its own recipes and tasks; leave out --recipe and --task, or the suite",
            Code.CONFLICT,
        )
    else:
        suite = load_suite(name)
    if not suite.experiments:
        idle = [f"--{option.replace('_', '-')}" for option in budget]
        idle += ["--seeds"] * (seeds is not None) + ["--no-profile"] * (not profile)
        idle += ["--train-on"] * (train_on is not None)
        if idle:
            raise SkylineError(
                f"suite {name} trains nothing, so {idle[0]} has no effect; leave it out",
                Code.CONFLICT,
            )
        return suite.model_copy(update={**devices, "profile_model": model or suite.profile_model})
    if budget and any(experiment.protocol for experiment in suite.experiments):
        option = f"--{next(iter(budget)).replace('_', '-')}"
        raise SkylineError(
            f"suite {name} follows a protocol, which sets the budget; leave out {option}", Code.CONFLICT
        )
    experiments = tuple(
        experiment.model_copy(
            update={
                "profile": experiment.profile and profile,
                "seeds": experiment.seeds if seeds is None else tuple(range(seeds)),
                **({"budget": experiment.budget.with_fields(budget)} if budget else {}),
            }
        )
        for experiment in suite.experiments
    )
    chosen = {"experiments": experiments, "model": model or suite.model}
    return suite.model_copy(update={**devices, **chosen})


def _check_options(budget: dict[str, Any]) -> None:
    """Raise SkylineError for a wrong value of a budget's option. The message names the option."""
    try:
        context.Budget.model_validate(budget)
    except ValidationError as error:
        fault = first_fault(error, context.Budget.model_fields)
        option = f"--{fault.key.replace('_', '-')}"
        raise SkylineError(fault.of(f"{option} {fault.value}"), fault.code) from None


def suite_names() -> list[str]:
    """Return the names of the built-in suites."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.toml"))


def load_suite(name: str) -> Suite:
    """Read a suite by its built-in name or by the path of its TOML file.

    Raises SkylineError (`unknown-name`) for an unknown name, and the errors of `parse_suite`.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = Path(__file__).parent / f"{name}.toml"
        if not path.is_file():
            raise unknown_name("suite", name, suite_names())
    return parse_suite(path)


def parse_suite(path: Path) -> Suite:
    """Read a suite file.

    Raises SkylineError if the file does not exist (`not-found`), is not TOML (`unreadable`), has a wrong key or value
    (the message names the key), or lists no cells (`incomplete`).
    """
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SkylineError(
            f"there is no suite file {path}; built-in suites: {', '.join(suite_names())}", Code.NOT_FOUND
        ) from None
    except OSError as error:
        raise SkylineError(
            f"{path} cannot be read ({error.strerror}); name a TOML file", Code.UNREADABLE
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SkylineError(f"{path} is not TOML: {error}", Code.UNREADABLE) from None
    try:
        suite = Suite.model_validate(data)
    except ValidationError as error:
        inner: dict[str, type[BaseModel]] = {
            "experiments": Experiment,
            "profiling": Profiling,
            "budget": BudgetSpec,
            "workloads": Workload,
        }
        tables = {name: table.model_fields for name, table in inner.items()}
        fault = first_fault(error, Suite.model_fields, tables)
        raise SkylineError(f"{path}: {fault.line}", fault.code) from None
    if not (suite.experiments or suite.profiling):
        raise SkylineError(
            f"{path} lists no cells; add an [[experiments]] or [[profiling]] table", Code.INCOMPLETE
        )
    return suite
