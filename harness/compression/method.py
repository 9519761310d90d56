"""The interface of a method: its card, its options, and hooks around the one training loop
(`harness.compression.training`).

This module does not import torch: `skyline methods` reads every card in a fraction of a second.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import TypeAdapter, ValidationError

from harness.common.errors import Code, SkylineError, unknown_name
from harness.common.validation import first_fault
from harness.compression.card import Card, Need

if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.comparable import Baseline
    from harness.compression.context import Augmented, Context, Step
    from harness.models.model import Model


class Method(ABC):
    """One published way to compress an encoder. An adapter is a file that defines one subclass with a card.

    A subclass must have:

    - `card`: what the method is and which costs it reduces (see `Card`).
    - `Options`: a class of annotated fields, decorated with `@options`. Its docstring says what each option means.

    It may have:

    - `suite`: for an option, the values that a sweep takes. Conformance runs the first ones (the smoke options) and
      tries all others.
    - the attributes below. Each has a default. Write an attribute in the class (`trains = False`), or as a property
      of the same name if the options decide it.
    - `final_shape_from` and `check_against`: called before anything is trained, to refuse what cannot work.
    - hooks. A stage calls them in this order, and each hook for every method of the stage before the next hook:

      1. `examples(context)`: once, only if the stage trains.
      2. `student(teacher, context)`: once. Only the first method of a stage that overrides it is asked.
      3. `prepare(student, context)`: once.
      4. `loss(step)` in every training step, before the optimizer's step; `step(student, progress)` after it.
         A stage in which no method `trains` skips the loop.
      5. `finish(student, context)`: once, without gradients; the student is on the processor, in evaluation mode.

    A hook must not change the teacher, must not touch global state (seeds, settings of torch, the environment), and
    must draw random numbers from `context.generator(purpose)` alone. It chooses thresholds, importances and tables
    from the training set only; the dev split cannot be reached. A fresh instance serves each run, so that hooks may
    keep state on `self`. Helpers of an adapter's own have names that begin with an underscore: conformance refuses
    every public name that overrides nothing, because it may be a misspelt hook.
    """

    card: ClassVar[Card]
    Options: ClassVar[type]
    suite: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    replaces_task_loss: ClassVar[bool] = False
    """Whether `loss` replaces the task loss (it may contain it). Otherwise it is added. At most one method of a stage
    replaces it.
    """
    decides: ClassVar[frozenset[str]] = frozenset()
    """What only one method of a stage may decide, in words: `the student`, `which weights are zero`, `how weights are
    stored`.
    """
    takes_students: ClassVar[bool] = False
    """Whether the method also works on students that are not Transformers (`harness.models.students`)."""
    must_be_last: ClassVar[bool] = False
    """Whether the result cannot be trained any more. Then no training stage may follow."""
    post_training_options: ClassVar[frozenset[str]] = frozenset()
    """Options that only `finish` reads. Recipes that differ only in these share one training, if the method is alone in
    its stage.
    """
    inert_when_tiny: ClassVar[Mapping[str, str]] = {}
    """Options that change nothing on conformance's tiny encoder, each with the reason. Any other option must change the
    artifact or its figures there.
    """

    def __init__(self, options: Any) -> None:
        self.options = options

    @property
    def needs(self) -> frozenset[Need]:
        """What `loss` reads beyond the student's logits: `teacher_logits` (b, outputs); `hidden_states`, one (b, n, d)
        for the embedding and each layer; `attentions`, one (b, heads, n, n) for each layer. The latter two are those
        of the teacher and of the student.
        """
        return frozenset()

    @property
    def trains(self) -> bool:
        """Whether the method needs the training loop. False if `finish` does all: then the record has no training
        of this stage, and the training budget does not matter.
        """
        return True

    @property
    def own_share(self) -> float:
        """The share of the stage's epochs that the method's own rounds (`train_round`) take together, in [0, 1). The
        stage's training gets what the methods leave.
        """
        return 0.0

    @property
    def restarts_from_pretrained(self) -> bool:
        """Whether the method begins again from the pre-trained weights, or from a student with new weights. It must
        then be the first of a recipe, because the work of methods before it would be lost.
        """
        return False

    @property
    def fully_compressed_at(self) -> float:
        """The training progress, 0 to 1, at which the student is as compressed as it will be. Early stopping chooses
        among the epochs that end after it.
        """
        return 0.0

    def final_shape_from(self, config: Any) -> Any:
        """Return the shape that the method leaves of an encoder of shape `config`, as far as it is known before
        training.

        It is called before anything is trained and sees no weights. Raises SkylineError, with what to do instead, for
        a shape that the method cannot work on with these options.
        """
        return config

    def check_against(self, config: Any, baseline: Baseline) -> None:
        """Raise SkylineError if the loss cannot compare an encoder of shape `config` with the baseline, or if the
        baseline's tokenizer or texts do not allow the options. It is called before `final_shape_from`.
        """
        return

    def student(self, teacher: Model, context: Context) -> Model:
        """Return the model to train; by default a copy. `teacher` is what the stage before left (in the first stage,
        the fine-tuned baseline) and must not be changed. `harness.models.surgery` cuts smaller encoders.
        """
        return deepcopy(teacher)

    def examples(self, context: Context) -> Sequence[Augmented]:
        """Return training examples to train on in addition to the task's own (see
        `harness.compression.distillation.augmentation`). The teacher labels them.
        """
        return ()

    def prepare(self, student: Model, context: Context) -> None:
        """Change the student in place before training: attach masks, fake quantization or ramps, freeze parameters,
        calibrate on `context.batches`.
        """
        return

    def learning_rate(self, name: str) -> float | None:
        """Return the peak learning rate of the student's parameter `name`, or None for the budget's. It is called once
        for each parameter that is trained. Parameters with a rate of their own have no weight decay.
        """
        return None

    def loss(self, step: Step) -> Tensor | None:
        """Return a scalar to minimise, added to the task loss or in its place (see `replaces_task_loss`); None adds
        nothing. It is called in every training step, after the student's forward pass.
        """
        return None

    def step(self, student: Model, progress: float) -> None:
        """Change the student in place after an optimizer step. `progress` is steps done / all steps, in (0, 1]."""
        return

    def finish(self, student: Model, context: Context) -> Model | None:
        """Make the saving real: slice, drop, factor, choose codecs (`student.storage.codecs`) and kernels.

        It is called in every stage, also if nothing was trained: post-training methods calibrate here on
        `context.batches`. Return the new model, or None if the student was changed in place. The artifact keeps only
        weights, configuration, codecs and kernels; a hook or a wrapped forward is lost.
        """
        return None


def parse_options(method: type[Method], given: Mapping[str, str]) -> Any:
    """Return the options of `method` from a recipe's text values by name. Raises SkylineError for an unknown option
    (`unknown-name`), a value that is not allowed (`out-of-range`), options that the class refuses (`conflict`), and a
    class that is not a dataclass (`wrong-kind`).
    """
    identity = method.card.id
    if not is_dataclass(method.Options):
        raise SkylineError(
            f"method '{identity}': Options is not a dataclass; decorate it with @options", Code.WRONG_KIND
        )
    known = {f.name for f in fields(method.Options)}
    for name in given:
        if name not in known:
            raise unknown_name(f"option of {identity}", name, known)
    try:
        return TypeAdapter(method.Options).validate_python(dict(given))
    except ValidationError as error:
        fault = first_fault(error)
        if not fault.key:  # the options do not fit each other
            raise SkylineError(f"{identity}: {fault.detail}", Code.CONFLICT) from None
        value = f"={given[fault.key]}" if fault.key in given else ""
        detail = f"it {fault.detail}" if fault.detail.startswith("must ") else fault.detail
        raise SkylineError(
            f"{identity}:{fault.key}{value} is out of range: {detail}", Code.OUT_OF_RANGE
        ) from None
