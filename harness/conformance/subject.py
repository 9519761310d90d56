"""A method under test. Results that several checks need (the runs of its hooks, its artifact) are computed once."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.common.errors import SkylineError
from harness.compression.context import Context
from harness.compression.method import Method, parse_options
from harness.compression.teacher_logits import TeacherLogits
from harness.conformance.second_process import Figures, SecondProcess, costs_of, quality_of
from harness.conformance.state import GlobalState, ModelState, RandomStates, preserved
from harness.conformance.tiny import BUDGET, tiny_encoder, tiny_task
from harness.models.artifacts import CONFIG, load_artifact, load_encoder, read_config, save_artifact, to_dense
from harness.models.batch import Batch
from harness.models.encoder.encoder import Encoder
from harness.models.model import Model
from harness.profiling.profile import StaticCosts
from harness.recipes.builder import run_stage
from harness.recipes.discovery import Found, Registry, in_words
from harness.recipes.recipe import BASELINE, Call, Recipe, RecipeStage
from harness.records.schema import Quality, Training, Workload

SEED = 0
WORKLOAD = Workload(batch=2, length=16)

Content = tuple[str, list[dict[str, float]]]
"""The identity of an artifact's content, and the figures of its trainings."""


class Broken(SkylineError):
    """A check found the fault that the message describes in one line."""


class Blocked(SkylineError):
    """A check could not run because of a fault that another check reports."""


@dataclass(frozen=True)
class Made:
    """An artifact, the model in memory that it was saved from, and the records of its trainings."""

    folder: Path
    hash: str
    student: Model
    training: list[Training]

    @property
    def content(self) -> Content:
        """The artifact's configuration without the recipe's text, the hashes of its other files, and the figures."""
        config = read_config(self.folder)
        digests = {name: digest for name, digest in config.digests.items() if name != CONFIG}
        text = config.model_copy(update={"recipe": "", "digests": digests}).model_dump_json()
        return text, [entry.figures for entry in self.training]


@dataclass(frozen=True)
class Runs:
    """Two runs of the hooks with one seed, and what they changed outside the student: global settings and generators,
    the teacher, and the previous stage's encoder.
    """

    stage: RecipeStage
    made: tuple[Made, Made]
    settings: list[str]
    generators: list[str]
    teacher: list[str]
    previous: list[str]


class Subject:
    """A method class and the file that defines it (None if that file cannot be imported alone).

    Use it as a context manager, or call `close`, because it keeps artifacts in a temporary folder. With
    `second_process`, costs and scores are computed in a second process meanwhile.
    """

    def __init__(
        self, method: type[Method], path: Path | None = None, *, second_process: bool = False
    ) -> None:
        self.method, self.path = method, path
        self._second = SecondProcess() if second_process else None
        self._temporary = tempfile.TemporaryDirectory(prefix="skyline-conformance-")
        self.folder = Path(self._temporary.name)
        self._count = 0
        self._contents: dict[RecipeStage, Content] = {}

    def __enter__(self) -> Subject:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete the temporary folder."""
        if self._second is not None:
            self._second.close()
        self._temporary.cleanup()

    @property
    def id(self) -> str:
        """The method's id."""
        return self.method.card.id

    @property
    def registry(self) -> Registry:
        """A registry with this method alone."""
        found = Found(self.method, str(self.path or self.method.__module__), self.path)
        return Registry({self.id: found}, {})

    def configurations(self) -> Iterator[RecipeStage]:
        """Yield the method with the first value of each option in its suite (the smoke options), then with each other
        value of one option.

        Raises SkylineError (`out-of-range`) for a value that the options refuse.
        """
        smoke = {name: values[0] for name, values in self.method.suite.items()}
        yield self.stage(smoke)
        for name, values in self.method.suite.items():
            for value in values[1:]:
                yield self.stage({**smoke, name: value})

    def stage(self, options: dict[str, Any]) -> RecipeStage:
        """Return a stage of this method alone."""
        given = {name: str(value) for name, value in options.items()}
        return RecipeStage((Call(self.method, parse_options(self.method, given)),))

    @cached_property
    def baseline(self) -> Made:
        """The tiny encoder's artifact."""
        return self.save(tiny_encoder(), [])

    def save(self, student: Model, training: list[Training], recipe: str = BASELINE) -> Made:
        """Save an encoder as an artifact of this subject, a recipe's with its parent as the builder does."""
        self._count += 1
        folder = self.folder / f"artifact-{self._count}"
        parents = [] if recipe == BASELINE else [self.baseline.hash]
        return Made(folder, save_artifact(student, folder, recipe, parents), student, training)

    def context(self, teacher: Encoder) -> Context:
        """Return the hooks' context: the toy task's training side, three steps, seed 0."""
        logits = TeacherLogits(self.folder / "teacher", self.baseline.hash)
        return Context(teacher, tiny_task().training_view(), BUDGET, seed=SEED, teacher_logits=logits)

    def run(self, stage: RecipeStage, previous: Model, training: bool = True) -> Made:
        """Run a stage's hooks as the builder does, and save what they make."""
        context = replace(self.context(load_encoder(self.baseline.folder)), shapes_only=not training)
        with preserved():
            student, done = run_stage(stage, previous, context)
        return self.save(student, done, str(stage))

    def content(self, stage: RecipeStage) -> Content:
        """Return the content that training a stage gives. It is cached by stage, and `runs` are used too."""
        if stage not in self._contents:
            same = stage == self.runs.stage
            made = self.made if same else self.run(stage, self.again(self.baseline))
            self._contents[stage] = made.content
        return self._contents[stage]

    @cached_property
    def suite_fault(self) -> str | None:
        """The error for the first suite value that the options refuse, in words; None if all are valid."""
        try:
            for _ in self.configurations():
                pass
        except SkylineError as error:
            return str(error)
        except Exception as error:
            return in_words(error)
        return None

    @cached_property
    def _outcome(self) -> Runs | str:
        """The runs of the first configuration that is not refused, or the reason why there are none."""
        refused: list[str] = []
        for stage in self.configurations():
            try:
                return self._run_twice(stage)
            except SkylineError as error:
                refused.append(f"'{stage}' ({error})")
            except Exception as error:
                return f"the hooks of '{stage}' fail: {in_words(error)}"
        return f"every configuration was refused, {len(refused)} in all; the first was {refused[0]}"

    def _run_twice(self, stage: RecipeStage) -> Runs:
        made, settings, started, ended = [], list[str](), [], []
        touched: tuple[dict[str, None], dict[str, None]] = ({}, {})
        for seed in (1, 2):
            given = load_encoder(self.baseline.folder), self.again(self.baseline)
            before = [ModelState(encoder) for encoder in given]
            # The two runs begin with different random states but the same settings. Settings count in the second run
            # only: a library may change some when it is first imported, a hook changes them every time.
            with preserved() as state:
                started.append(RandomStates.seed(seed))
                student, training = run_stage(stage, given[1], self.context(given[0]))
                settings = state.changed_settings(GlobalState.now())
                ended.append(RandomStates.now())
            for seen, one, encoder in zip(touched, before, given, strict=True):
                seen.update(dict.fromkeys(one.changes(ModelState(encoder))))
            made.append(self.save(student, training, str(stage)))
        generators = _generators_touched(started, ended)
        if self._second is not None:
            self._second.tell([made[0].folder, self.baseline.folder], WORKLOAD)
        return Runs(stage, (made[0], made[1]), settings, generators, *(list(seen) for seen in touched))

    def run_hooks(self) -> None:
        """Make the runs, if they are not made yet. If they fail, `why_not` gives the reason."""
        if self.suite_fault is None:
            _ = self._outcome

    @property
    def why_not(self) -> str | None:
        """The reason why there are no runs; None if there are. Raises Blocked if the suite's values are not valid."""
        if self.suite_fault is not None:
            raise Blocked(f"not checked: {self.suite_fault}")
        return self._outcome if isinstance(self._outcome, str) else None

    @property
    def runs(self) -> Runs:
        """The two runs. Raises Blocked if the hooks failed."""
        if self.why_not is not None or isinstance(self._outcome, str):
            raise Blocked(f"not checked: {self._outcome}")
        return self._outcome

    @property
    def made(self) -> Made:
        """The artifact of the first run."""
        return self.runs.made[0]

    @cached_property
    def _loaded(self) -> Model | str:
        made = self.made
        try:
            return load_artifact(made.folder)
        except SkylineError as error:
            return str(error)

    @property
    def loaded(self) -> Model:
        """The artifact, loaded in this process. Raises Blocked if it does not load."""
        if isinstance(self._loaded, str):
            raise Blocked(f"not checked: the artifact does not load: {self._loaded}")
        return self._loaded

    @property
    def does_not_load(self) -> str | None:
        """The reason why the artifact does not load; None if it does."""
        return self._loaded if isinstance(self._loaded, str) else None

    @cached_property
    def _figures(self) -> list[Figures] | None:
        _ = self.loaded
        return None if self._second is None else self._second.figures()

    @cached_property
    def costs(self) -> tuple[StaticCosts, StaticCosts]:
        """The FLOPs, parameters and bytes of the artifact and of the baseline, without timing."""
        if self._figures is not None:
            return self._figures[0].costs, self._figures[1].costs
        return costs_of(self.made.folder, WORKLOAD), costs_of(self.baseline.folder, WORKLOAD)

    @cached_property
    def qualities(self) -> tuple[Quality, Quality]:
        """The scores of the artifact and of the baseline."""
        if self._figures is not None:
            return self._figures[0].quality, self._figures[1].quality
        return quality_of(self.made.folder), quality_of(self.baseline.folder)

    @cached_property
    def sentences(self) -> Batch:
        """Eight sentences of the toy task's dev split, padded to the longest."""
        return self.loaded.encode([example.text for example in tiny_task().dev()[:8]])

    def again(self, made: Made) -> Model:
        """Return a trainable copy of an artifact, as the next stage of a recipe gets it."""
        return to_dense(load_artifact(made.folder))

    def parse(self, text: str) -> Recipe:
        """Parse a recipe in which this method is the only one known."""
        return Recipe.parse(text, self.registry)


def _generators_touched(started: list[RandomStates], ended: list[RandomStates]) -> list[str]:
    """Return the generators that the hooks drew from or seeded.

    torch's generator advances when any module is constructed. So it counts only if it was seeded: if both runs ended
    with the same state.
    """
    found = {name: None for a, b in zip(started, ended, strict=True) for name in a.changes(b)}
    seeded = [name for name in found if name not in ended[0].changes(ended[1])]
    return [name for name in found if name in seeded or not name.startswith("torch")]
