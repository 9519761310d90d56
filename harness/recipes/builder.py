"""Build artifacts from recipes: fine-tune the baseline, apply the stages, write each result to disk, and reuse results
that are there.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Collection
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from pydantic import ValidationError

from harness.common.errors import Code, SkylineError
from harness.common.files import read_json, write_json
from harness.common.validation import first_fault
from harness.compression.comparable import Baseline
from harness.compression.context import Budget, Context, OwnRounds, Progress
from harness.compression.exit_rules import with_exit_rule
from harness.compression.method import Method
from harness.compression.standardizing import adapt
from harness.compression.teacher_logits import TeacherLogits
from harness.compression.trained_weights import TrainedWeights
from harness.compression.training import train
from harness.models.architectures import architecture
from harness.models.artifacts import (
    artifact_hash,
    load_artifact,
    load_encoder,
    save_artifact,
    to_dense,
    verify_artifact,
)
from harness.models.checkpoints import load_language_model, load_model, origin_of
from harness.models.encoder.encoder import Encoder
from harness.models.factory import make_model
from harness.models.initialization import nothing_drawn
from harness.models.model import Model
from harness.recipes.compatibility import check_stage
from harness.recipes.fingerprints import artifact_fingerprint
from harness.recipes.recipe import BASELINE, Recipe, RecipeStage
from harness.records.cells import BudgetSpec
from harness.records.schema import Training
from harness.tasks import load_task
from harness.tasks.base import Task, TrainingView

UNTRAINED_TASK, UNTRAINED_EXAMPLES = "toy-sentiment", 64
"""The data that methods see when a recipe is built without training."""


@dataclass(frozen=True)
class Built:
    """An artifact on disk, its hash, and the record of each training, the baseline's first."""

    folder: Path
    hash: str
    training: list[Training]
    fingerprint: str


@dataclass
class Builder:
    """Builds the artifacts of one base model, task and seed in a workspace. `report` is called with a stage's name and
    its progress.
    """

    workspace: Path
    model: str
    task: Task
    seed: int
    budget: BudgetSpec
    device: str = "cpu"
    report: Callable[[str, Progress], None] | None = None

    def build(self, recipe: Recipe) -> Built:
        """Build `recipe`, after the recipes that it continues. Raises SkylineError if a method cannot work on the shape
        before it, or if a training fails.
        """
        fingerprint = self._fingerprint(recipe)
        folder = self.workspace / "artifacts" / fingerprint[:20]
        log = folder.with_suffix(".training.json")
        if log.is_file() and _reusable(folder):
            training = [Training.model_validate(entry) for entry in read_json(log)]
            return Built(folder, artifact_hash(folder), training, fingerprint)
        student, training, parents = self._baseline() if recipe.is_baseline else self._stage(recipe)
        # The log is written first: a folder without a log would be built again, a log without a folder is harmless.
        write_json(log, [entry.model_dump(mode="json") for entry in training])
        if _reusable(folder):
            return self.build(recipe)
        digest = save_artifact(student, folder, str(recipe), parents)
        return Built(folder, digest, training, fingerprint)

    def _fingerprint(self, recipe: Recipe, training: bool = False) -> str:
        return artifact_fingerprint(
            recipe,
            origin=origin_of(self.model),
            data=self.task.fingerprint(),
            seed=self.seed,
            budgets=self.budget.model_dump(),
            device=self.device,
            training=training,
        )

    def _baseline(self) -> tuple[Model, list[Training], list[str]]:
        model = self._base_model()
        model.require_tokenizer()
        context = self._context(model, Budget.model_validate(self.budget.baseline), None)
        return model, [train(model, [], context, BASELINE)], []

    def _stage(self, recipe: Recipe) -> tuple[Model, list[Training], list[str]]:
        assert recipe.parent is not None
        baseline, parent = self.build(Recipe()), self.build(recipe.parent)
        teacher = load_encoder(baseline.folder)
        previous = teacher if parent.hash == baseline.hash else load_artifact(parent.folder)
        stage = recipe.stages[-1]
        logits = TeacherLogits(self.workspace / "teacher", baseline.hash)
        context = self._context(teacher, Budget.model_validate(self.budget.recipe), logits)
        kept = None
        if len(stage.calls) == 1 and stage.calls[0].method.post_training_options:
            name = self._fingerprint(recipe, training=True)[:20]
            kept = TrainedWeights(self.workspace / "trained" / f"{name}.safetensors")
        student, training = run_stage(stage, to_dense(previous).eval(), context, kept=kept)
        return student, parent.training + training, [parent.hash]

    def _base_model(self) -> Encoder:
        return load_model(self.model, self.task.output_size, self.seed, self.task.kind)

    def _context(self, teacher: Encoder, budget: Budget, logits: TeacherLogits | None) -> Context:
        return Context(
            teacher=teacher,
            task=self.task.training_view(),
            budget=budget,
            seed=self.seed,
            device=self.device,
            teacher_logits=logits,
            progress=self.report,
            load_pretrained=self._base_model,
            load_language_model=lambda: load_language_model(self.model),
        )


def _reusable(folder: Path) -> bool:
    """Return whether a cached artifact exists and is undamaged. A damaged one is deleted, so that it is built again."""
    if not folder.is_dir():
        return False
    try:
        verify_artifact(folder)
    except (SkylineError, OSError) as error:  # another worker may be removing it
        logging.getLogger(__name__).warning("%s: this is done now", error)
        shutil.rmtree(folder, ignore_errors=True)
        return False
    return True


def run_stage(
    stage: RecipeStage,
    previous: Model,
    context: Context,
    kept: TrainedWeights | None = None,
) -> tuple[Model, list[Training]]:
    """Apply the hooks of a stage's methods to `previous`, the result of the stage before. Return the student and one
    record per training, or one with the figures of a stage that trains nothing.

    The stage's training gets the share of the budget's epochs that the methods' own rounds leave. With `kept`, weights
    of the same training are loaded if they are there, else trained and kept. Raises SkylineError if a method refuses
    the shape, or (`conflict`) if a method trains although all methods declare `trains = False`, or if the trainings
    take more than the budget.

    Early exit is off during the stage, so that methods measure every row of a batch in every layer.
    """
    methods = [call.make() for call in stage.calls]
    teacher = context.teacher
    check_stage(methods, previous.config, Baseline(teacher.config, lambda: teacher.tokenizer))
    left = 1 - stage.own_share()
    context = replace(context, trained=[], figures={})
    trains = stage.trains and not context.shapes_only
    rule = getattr(previous.config, "exit_rule", None)
    previous = with_exit_rule(previous, None)
    if trains:
        made = [example for method in methods for example in method.examples(context)]
        context = replace(context, augmented=made)
    told = [(method, replace(context, own=OwnRounds(method.own_share))) for method in methods]
    maker = next((each for each in told if type(each[0]).student is not Method.student), None)
    student = deepcopy(previous) if maker is None else maker[0].student(previous, maker[1])
    student.storage = deepcopy(student.storage)
    if trains and maker is not None:
        adapt(student, previous, context)
    for method, its_context in told:
        method.prepare(student, its_context)
    done: list[Training] = []
    if trains:
        known = kept.load(student) if kept is not None else None
        if known is None:
            rest = context.budget.model_copy(update={"epochs": left * context.budget.epochs})
            done = [train(student, methods, replace(context, budget=rest), str(stage))]
            if kept is not None:
                kept.keep(student, done[0])
        else:
            done = [known.model_copy(update={"stage": str(stage)})]
    before = list(context.trained)
    context.trained.clear()
    student.to("cpu").eval()
    with torch.no_grad():
        for method, its_context in told:
            student = method.finish(student, its_context) or student
    if rule is not None and getattr(student.config, "exit_rule", rule) is None:
        student = with_exit_rule(student, rule)
    if not trains and before + context.trained:  # the fingerprint of such a stage does not contain the budget
        raise SkylineError(f"'{stage}' declares trains = False, but trains; leave that out", Code.CONFLICT)
    if trains:
        _check_seen(stage, [*before, *done, *context.trained], context)
        done = [entry.model_copy(update={"figures": dict(context.figures)}) for entry in done]
    elif context.figures and not context.shapes_only:
        done = [Training.untrained(str(stage), dict(context.figures))]
    return student, before + done + context.trained


def _check_seen(stage: RecipeStage, trainings: list[Training], context: Context) -> None:
    """Raise SkylineError (`conflict`) if the trainings of a stage together saw more examples than its budget allows."""
    rows = len(context.training_examples()) + len(context.augmented)
    seen = sum(each.seen for each in trainings)
    # A training rounds to whole steps and makes at least one; the last batch of an epoch may be smaller.
    rounding = 2 * context.budget.batch_size * len(trainings)
    if seen > context.budget.epochs * rows + rounding:
        raise SkylineError(
            f"the trainings of '{stage}' saw {seen} examples, but {context.budget.epochs:g} epochs of {rows} are "
            "allowed for all together; train by train_round, and do not raise the budget's examples there",
            Code.CONFLICT,
        )


def build_untrained(
    recipe: Recipe, model: str, workspace: Path, seed: int = 0, whole: Collection[Path] = ()
) -> tuple[Path, Path]:
    """Build the artifacts of a recipe and of the baseline from a base model without training. Return their folders in
    this order.

    Sizes, FLOPs and latency do not depend on the values of weights. Methods that choose from data see a toy task.
    Folders in `whole` are known to be undamaged and are not verified again. Raises SkylineError if a method cannot work
    on the shape before it.
    """
    folders = {}
    for wanted in dict.fromkeys((Recipe(), recipe)):
        name = artifact_fingerprint(
            wanted,
            origin=origin_of(model),
            data="none",
            seed=seed,
            budgets={"baseline": None, "recipe": None},
        )
        folder = workspace / "untrained" / name[:20]
        folders[wanted] = folder
        if (folder in whole and folder.is_dir()) or _reusable(folder):
            continue
        teacher = load_model(model, labels=2, seed=seed)
        encoder = _start(wanted, teacher, seed)
        for stage in wanted.stages:
            budget = Budget(examples=UNTRAINED_EXAMPLES)
            context = Context(teacher, _toy_view(), budget, seed=seed, shapes_only=True)
            encoder, _ = run_stage(stage, to_dense(encoder).eval(), context)
        parents = [] if wanted.is_baseline else [artifact_hash(folders[Recipe()])]
        save_artifact(encoder, folder, str(wanted), parents)
    return folders[recipe], folders[Recipe()]


def _start(recipe: Recipe, teacher: Encoder, seed: int) -> Model:
    """Return the model that an untrained recipe's stages start from: the base model, or the architecture that the
    recipe names, with random weights.
    """
    if recipe.start is None:
        return teacher
    config = architecture(recipe.start)
    # The base model's tokenizer does not fit another vocabulary.
    tokenizer = teacher.tokenizer if config.vocab_size == teacher.config.vocab_size else None
    with nothing_drawn():
        made = make_model(config, tokenizer, f"random (seed {seed})")
    return made.initialize(torch.Generator().manual_seed(seed)).eval()


def _toy_view() -> TrainingView:
    return load_task(UNTRAINED_TASK).training_view()


def check_budget(budget: BudgetSpec) -> None:
    """Raise SkylineError (`out-of-range`) if a budget has an unknown field or a value out of range."""
    for name, values in (("baseline", budget.baseline), ("recipe", budget.recipe)):
        try:
            Budget.model_validate(values)
        except ValidationError as error:
            fault = first_fault(error, Budget.model_fields)
            raise SkylineError(fault.within(f"budget.{name}").line, Code.OUT_OF_RANGE) from None
