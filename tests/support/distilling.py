"""Steps of a distillation for tests of its losses, and a watch on the trainings that `prepare` begins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.compression import training
from harness.compression.context import Context, Step
from harness.compression.method import Method
from harness.compression.task_loss import task_loss
from harness.conformance.tiny import tiny_encoder
from harness.models.batch import Batch, Output
from harness.models.encoder.encoder import Encoder
from harness.recipes.recipe import Recipe

TEXTS = [
    "a great film",
    "the plot is dull and the actors are terrible .",
    "not bad",
    "awful , boring , slow film",
]


def given_step(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    mask: Tensor,
    logits: tuple[Tensor, Tensor],
    targets: Tensor,
) -> Step:
    """A step of classification whose hidden states and logits are given."""
    step = Step(
        kind="classification",
        batch=Batch(torch.zeros_like(mask), mask, torch.zeros_like(mask)),
        targets=targets,
        rows=list(range(len(targets))),
        output=Output(logits[0], hidden_states=tuple(student)),
        task_loss=task_loss("classification", logits[0], targets),
        progress=0.0,
        teacher=tiny_encoder(),
        _logits=logits[1],
    )
    step.__dict__["teacher_pass"] = Output(logits[1], hidden_states=tuple(teacher))
    return step


def real_step(student: Encoder, teacher: Encoder, method: Method) -> Step:
    """A step on texts of different lengths."""
    batch, targets = teacher.encode(TEXTS), torch.tensor([1, 0, 1, 0])
    output = student.eval()(batch, hidden_states=True)
    loss = task_loss("classification", output.logits, targets)
    return Step(
        "classification", batch, targets, [0, 1, 2, 3], output, loss, 0.0, teacher.eval(), needs=method.needs
    )


def first_training(
    recipe: str, teacher: Encoder, context: Context, monkeypatch: pytest.MonkeyPatch
) -> tuple[Encoder, Method, list[tuple[Tensor, dict[str, Any]]]]:
    """Return the student and the method after `prepare`, and for each training that `prepare` began the loss on
    `real_step` and the budget.
    """
    (call,) = Recipe.parse(recipe).calls
    method, seen = call.make(), list[tuple[Tensor, dict[str, Any]]]()

    def watch(student: Any, methods: Sequence[Method], context: Context, stage: str, **budget: Any) -> None:
        loss = methods[0].loss(real_step(student, teacher, methods[0]))
        assert loss is not None
        seen.append((loss, budget))

    monkeypatch.setattr(training, "train_round", watch)
    student: Any = method.student(teacher, context)
    method.prepare(student, context)
    return student, method, seen
