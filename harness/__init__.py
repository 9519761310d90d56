"""Skyline's harness: the elastic encoder, methods and recipes, tasks, training, profiling and records.

This is the public face, for adapters and scripts. Names are imported on first use, so that `import harness` does not
load torch. Nothing inside `harness/` imports it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.common.errors import Code as Code
    from harness.common.errors import SkylineError as SkylineError
    from harness.compression.card import Card as Card
    from harness.compression.card import Claim as Claim
    from harness.compression.card import Paper as Paper
    from harness.compression.card import options as options
    from harness.compression.method import Method as Method
    from harness.models.artifacts import load_artifact as load_artifact
    from harness.models.artifacts import save_artifact as save_artifact
    from harness.models.batch import Batch as Batch
    from harness.models.batch import Output as Output
    from harness.models.checkpoints import load_model as load_model
    from harness.models.checkpoints import save_checkpoint as save_checkpoint
    from harness.models.encoder.encoder import Encoder as Encoder
    from harness.recipes.recipe import Recipe as Recipe
    from harness.tasks import load_task as load_task

_HOME = {
    "Batch": "harness.models.batch",
    "Card": "harness.compression.card",
    "Claim": "harness.compression.card",
    "Code": "harness.common.errors",
    "Encoder": "harness.models.encoder.encoder",
    "Method": "harness.compression.method",
    "Output": "harness.models.batch",
    "Paper": "harness.compression.card",
    "Recipe": "harness.recipes.recipe",
    "SkylineError": "harness.common.errors",
    "load_artifact": "harness.models.artifacts",
    "load_model": "harness.models.checkpoints",
    "load_task": "harness.tasks",
    "options": "harness.compression.card",
    "save_artifact": "harness.models.artifacts",
    "save_checkpoint": "harness.models.checkpoints",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'harness' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
