"""Skyline's harness: the elastic encoder, methods and recipes, tasks, training, profiling and records.

Names are imported on first use, so that `import harness` costs nothing and does not load torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.artifacts import load_artifact as load_artifact
    from harness.artifacts import save_artifact as save_artifact
    from harness.checkpoints import load_model as load_model
    from harness.checkpoints import save_checkpoint as save_checkpoint
    from harness.encoder import Batch as Batch
    from harness.encoder import Encoder as Encoder
    from harness.encoder import Output as Output
    from harness.errors import SkylineError as SkylineError
    from harness.method import Card as Card
    from harness.method import Claim as Claim
    from harness.method import Method as Method
    from harness.method import Paper as Paper
    from harness.method import options as options
    from harness.recipe import Recipe as Recipe
    from harness.tasks import load_task as load_task

_HOME = {
    "Batch": "harness.encoder",
    "Card": "harness.method",
    "Claim": "harness.method",
    "Encoder": "harness.encoder",
    "Method": "harness.method",
    "Output": "harness.encoder",
    "Paper": "harness.method",
    "Recipe": "harness.recipe",
    "SkylineError": "harness.errors",
    "load_artifact": "harness.artifacts",
    "load_model": "harness.checkpoints",
    "load_task": "harness.tasks",
    "options": "harness.method",
    "save_artifact": "harness.artifacts",
    "save_checkpoint": "harness.checkpoints",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'harness' has no attribute '{name}'")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
