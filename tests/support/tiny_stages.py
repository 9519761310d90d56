"""Contexts, methods and students of conformance's tiny encoder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from harness.compression.context import Budget, Context, Progress
from harness.compression.method import Method
from harness.compression.teacher_logits import TeacherLogits
from harness.conformance.tiny import BUDGET, tiny_encoder, tiny_task
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe


def context(
    teacher: Encoder | None = None,
    *,
    seed: int = 0,
    shapes_only: bool = False,
    teacher_logits: TeacherLogits | None = None,
    progress: Callable[[str, Progress], None] | None = None,
    load_pretrained: Callable[[], Encoder] | None = None,
    **budget: Any,
) -> Context:
    """A context of the tiny task; `budget` changes fields of conformance's budget."""
    return Context(
        teacher=tiny_encoder() if teacher is None else teacher,
        task=tiny_task().training_view(),
        # Validated, so that a misspelt field is an error.
        budget=Budget.model_validate({**BUDGET.model_dump(), **budget}),
        seed=seed,
        shapes_only=shapes_only,
        teacher_logits=teacher_logits,
        progress=progress,
        load_pretrained=load_pretrained,
    )


def method_of(recipe: str) -> Method:
    """The method of a recipe of one call."""
    (call,) = Recipe.parse(recipe).calls
    return call.make()


def built(
    recipe: str, teacher: Encoder | None = None, training: bool = False, *, seed: int = 0, **budget: Any
) -> Encoder:
    """The student of a recipe of one stage, as its methods leave it."""
    teacher = tiny_encoder().eval() if teacher is None else teacher
    (stage,) = Recipe.parse(recipe).stages
    return run_stage(stage, teacher, context(teacher, seed=seed, shapes_only=not training, **budget))[0]


def shape_left(recipe: str, config: EncoderConfig) -> EncoderConfig:
    """The shape that a recipe's methods leave, by their `final_shape_from`."""
    for call in Recipe.parse(recipe).calls:
        config = call.make().final_shape_from(config)
    return config


def matrices(model: Encoder) -> dict[str, Tensor]:
    """The matrices of the layers, by name."""
    return {name: model.get_parameter(name).detach() for name in model.matrix_names()}


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
