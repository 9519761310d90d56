"""Fingerprints: hashes of everything that an artifact depends on, which is declared versions, options, data, budgets,
seed and weights.

A method's card and the harness declare versions (`Card.version`, `harness.records.versions`). A result is stale if one
of them was raised. The lock (`harness.conformance.lock`) shows that a change of the code needs a new version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from typing import Any

from harness.common.hashing import digest
from harness.models.architectures import architecture
from harness.recipes.recipe import Recipe, RecipeStage
from harness.records.versions import TRAINING_VERSION


def method_versions(stage: RecipeStage) -> dict[str, int]:
    """Return the version that each method of a stage declares, by id."""
    return {call.id: call.method.card.version for call in stage.calls}


def declared_versions(recipe: Recipe) -> dict[str, int]:
    """Return the versions that determine a recipe's artifact: that of the training, and that of each method by id."""
    methods = [method_versions(stage) for stage in recipe.stages]
    return {
        "training": TRAINING_VERSION,
        **{name: number for each in methods for name, number in each.items()},
    }


def resolved_options(stage: RecipeStage) -> list[tuple[str, dict[str, Any]]]:
    """Return each method's id with all its options, also those that have their defaults."""
    return [(call.id, asdict(call.options)) for call in stage.calls]


def trained_options(stage: RecipeStage) -> list[tuple[str, dict[str, Any]]]:
    """Return the same as `resolved_options`, but for post-training options only whether they are given."""
    return [
        (
            call.id,
            {
                name: value is not None if name in call.method.post_training_options else value
                for name, value in options.items()
            },
        )
        for call, (_, options) in zip(stage.calls, resolved_options(stage), strict=True)
    ]


def artifact_fingerprint(
    recipe: Recipe,
    *,
    origin: str,
    data: str,
    seed: int,
    budgets: Mapping[str, Any],
    device: str = "cpu",
    training: bool = False,
) -> str:
    """Return the hash of everything that an artifact depends on.

    `origin` identifies the base model's weights and `data` the task's content. `budgets` holds `baseline`, and `recipe`
    for a recipe's stages. `device` is the device that trains. With `training`, post-training options of the last stage
    are left out, so that recipes which share a training have one hash.
    """
    if recipe.is_baseline:
        elsewhere = {} if device == "cpu" else {"device": device.partition(":")[0]}
        return digest(
            {
                **elsewhere,
                "origin": origin,
                "data": data,
                "seed": seed,
                "budget": budgets["baseline"],
                "training": TRAINING_VERSION,
                "torch": _installed("torch").partition("+")[0],
                "tokenizers": _installed("tokenizers"),
            }
        )
    assert recipe.parent is not None
    parent = artifact_fingerprint(
        recipe.parent, origin=origin, data=data, seed=seed, budgets=budgets, device=device
    )
    if recipe.start is not None and not recipe.stages:
        return digest({"parent": parent, "architecture": architecture(recipe.start).model_dump(mode="json")})
    stage = recipe.stages[-1]
    return digest(
        {
            "parent": parent,
            "stage": trained_options(stage) if training else resolved_options(stage),
            "methods": method_versions(stage),
            "budget": budgets["recipe"] if stage.trains else None,
        }
    )


@cache
def _installed(package: str) -> str:
    """Return a package's version. It is cached, because reading it takes a millisecond and every fingerprint asks."""
    return version(package)
