"""What makes a result stale: fingerprints over method files, data, options, weights and the versions that
matter.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.discovery import discover
from harness.recipe import Recipe, RecipeStage

TRAINING_VERSION = 2
"""Raise it when a change of the loop, the encoder or the codecs changes what training produces."""
EVALUATION_VERSION = 1
"""Raise it when a change of prediction, metrics or intervals changes a record's quality."""
PROFILING_VERSION = 1
"""Raise it when a change of the measuring changes a record's profile."""


def digest(value: Mapping[str, Any]) -> str:
    """A SHA-256 over canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def code_hash(path: Path) -> str:
    """The hash of what a Python file does: comments, docstrings and the card may change without making
    results stale.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        node.body = [part for part in node.body if not _is_docstring(part) and not _is_card(part)] or [
            ast.Pass()
        ]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def _is_docstring(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _is_card(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["card"]


def method_hashes(stage: RecipeStage) -> dict[str, str]:
    """The hash of each method's file, by id."""
    found = discover().methods
    hashes = {}
    for call in stage.calls:
        path = found[call.id].path
        hashes[call.id] = code_hash(path) if path is not None else found[call.id].source
    return hashes


def artifact_fingerprint(
    recipe: Recipe,
    *,
    origin: str,
    data: str,
    seed: int,
    budgets: Mapping[str, Any],
) -> str:
    """What an artifact depends on. `budgets` holds `baseline` and, for the stages of a recipe, `recipe`."""
    if recipe.is_baseline:
        return digest(
            {
                "origin": origin,
                "data": data,
                "seed": seed,
                "budget": budgets["baseline"],
                "training": TRAINING_VERSION,
                "torch": version("torch").partition("+")[0],
                "tokenizers": version("tokenizers"),
            }
        )
    assert recipe.parent is not None
    stage = recipe.stages[-1]
    parent = artifact_fingerprint(recipe.parent, origin=origin, data=data, seed=seed, budgets=budgets)
    return digest(
        {
            "parent": parent,
            "stage": str(stage),
            "methods": method_hashes(stage),
            "budget": budgets["recipe"] if stage.trains else None,
        }
    )
