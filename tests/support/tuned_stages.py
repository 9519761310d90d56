"""A fine-tuned encoder and a pre-trained one, for methods that begin with pre-trained weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from harness.compression.context import Context
from harness.conformance.tiny import tiny_encoder
from harness.models.encoder.encoder import Encoder
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from harness.records.schema import Training
from tests.support.tiny_stages import context

TUNED, PRETRAINED = 0, 5
"""The seeds of the two encoders that stand for the baseline and for what it was fine-tuned from."""


def tuned_context(
    load: Callable[[], Encoder] | None = lambda: tiny_encoder(PRETRAINED), **budget: Any
) -> Context:
    """A context whose teacher is the fine-tuned encoder; `load` gives the pre-trained one."""
    return context(tiny_encoder(TUNED), load_pretrained=load, **budget)


def run(
    recipe: str, given: Context | None = None, shapes_only: bool = False
) -> tuple[Encoder, list[Training]]:
    """All stages of a recipe, one after the other."""
    student = tiny_encoder(TUNED)
    done: list[Training] = []
    for stage in Recipe.parse(recipe).stages:
        student, more = run_stage(stage, student, replace(given or tuned_context(), shapes_only=shapes_only))
        done += more
    return student, done


def smallest(values: np.ndarray, count: int) -> np.ndarray:
    """Return a mask of the `count` smallest values, by sorting."""
    found = np.zeros(values.size, dtype=bool)
    found[np.argsort(values, kind="stable")[:count]] = True
    return found
