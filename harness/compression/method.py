"""The interface of a method: its card, its options and four hooks around the one training loop
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

from harness.common.errors import SkylineError, unknown_name
from harness.common.validation import first_fault

if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.comparable import Baseline
    from harness.compression.context import Augmented, Context, Step
    from harness.models.model import Model
from harness.compression.card import Card, Need


class Method(ABC):
    """One published way to change an encoder, or to replace it by a student.

    All hooks, `check` and `check_against` are optional. `Options` is a frozen (pydantic) dataclass; `suite` maps an
    option to the values that a sweep takes, the first of which the conformance tests use. A fresh instance serves each
    run, so hooks may keep state on `self`.
    """

    card: ClassVar[Card]
    Options: ClassVar[type]
    suite: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    trains: ClassVar[bool] = True
    """Whether the method needs the training loop. A stage in which no method trains skips it."""
    replaces_task_loss: ClassVar[bool] = False
    """Whether `loss` replaces the task loss (it may contain it) rather than adding to it. At most one a
    stage.
    """
    needs: ClassVar[frozenset[Need]] = frozenset()
    """What `loss` reads of teacher and student beyond the student's logits."""
    rewrites: ClassVar[frozenset[str]] = frozenset()
    """What only one method of a stage may decide, for example `student` or `weight-values`."""
    takes_students: ClassVar[bool] = False
    """Whether it works on students that are no Transformers too (`harness.models.students`), or on encoders alone."""
    last: ClassVar[bool] = False
    """Whether the result can no longer be trained, so that no training stage may follow."""

    after_training: ClassVar[frozenset[str]] = frozenset()
    """Options that `finish` alone reads. Recipes that differ in these only share one training, where the method has a
    stage to itself.
    """

    def __init__(self, options: Any) -> None:
        self.options = options

    @property
    def needs_training(self) -> bool:
        """Whether it needs the training loop with its options; `trains` where these do not decide it."""
        return self.trains

    @property
    def rewinds(self) -> bool:
        """Whether it begins anew, with the pre-trained weights or with a student that takes over none of its weights,
        so that what was done before it would be lost.
        """
        return False

    @property
    def settled(self) -> float:
        """The training progress from which the student is as compressed as it will be: early stopping chooses among
        the epochs after it.
        """
        return 0.0

    def check(self, config: Any) -> Any:
        """Raise SkylineError where the method cannot work on an encoder of this shape with these options, and return
        the shape that it leaves, as far as it is known before training. It is asked before anything is trained.
        """
        return config

    def check_against(self, config: Any, baseline: Baseline) -> None:
        """Raise SkylineError where an encoder of this shape cannot be compared with the baseline's as the method will,
        or where the baseline's tokenizer does not allow the options. It is asked before `check`.
        """
        return

    def student(self, teacher: Model, context: Context) -> Model:
        """What is trained: by default a copy of the teacher. Must not change the teacher."""
        return deepcopy(teacher)

    def examples(self, context: Context) -> Sequence[Augmented]:
        """Training examples beside the task's own, made before anything is trained (see
        `harness.compression.distillation.augmentation`).
        """
        return ()

    def prepare(self, student: Model, context: Context) -> None:
        """Act before training: masks, fake quantization, ramps."""
        return

    def learning_rate(self, name: str) -> float | None:
        """The peak learning rate of the student's parameter `name`, where it is not the budget's: that of learned
        masks, for example.
        """
        return None

    def loss(self, step: Step) -> Tensor | None:
        """Add to the task loss, or replace it (see `replaces_task_loss`)."""
        return None

    def step(self, student: Model, progress: float) -> None:
        """Act after each optimizer step; `progress` runs from 0 (excluded) to 1."""
        return

    def finish(self, student: Model, context: Context) -> Model | None:
        """Make it real: slice, drop, factor, choose codecs and kernels. Return the new encoder, or None for
        in place.
        """
        return None


def parse_options(method: type[Method], given: Mapping[str, str]) -> Any:
    """The options of `method` from a recipe's text values. Raises SkylineError naming option, value and what
    is allowed.
    """
    identity = method.card.id
    if not is_dataclass(method.Options):
        raise SkylineError(f"method '{identity}': Options is no dataclass; decorate it with @options")
    known = {f.name for f in fields(method.Options)}
    for name in given:
        if name not in known:
            raise unknown_name(f"option of {identity}", name, known)
    try:
        return TypeAdapter(method.Options).validate_python(dict(given))
    except ValidationError as error:
        fault = first_fault(error)
        if not fault.key:  # the options do not fit each other
            raise SkylineError(f"{identity}: {fault.detail}") from None
        value = f"={given[fault.key]}" if fault.key in given else ""
        detail = f"it {fault.detail}" if fault.detail.startswith("must ") else fault.detail
        raise SkylineError(f"{identity}:{fault.key}{value} is out of range: {detail}") from None
