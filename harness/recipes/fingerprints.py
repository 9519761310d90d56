"""What makes a result stale: fingerprints over method files, data, options, weights and the versions that
matter.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.common.hashing import digest
from harness.compression.method import Method
from harness.models.architectures import architecture
from harness.recipes.recipe import Recipe, RecipeStage
from harness.records.versions import TRAINING_VERSION


@cache
def code_hash(path: Path) -> str:
    """The hash of what a Python file does: comments, docstrings, imports for types, the card, `final_shape_from` and
    `check_against` (which only refuse) may change without making results stale.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        node.body = [part for part in node.body if not _says_nothing(part)] or [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()


def _says_nothing(node: ast.stmt) -> bool:
    """Whether a statement has no part in results."""
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    if isinstance(node, ast.FunctionDef):
        return node.name in ("final_shape_from", "check_against")
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    return isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["card"]


def method_hashes(stage: RecipeStage) -> dict[str, str]:
    """The hash of each file, by module, that defines what the methods of a stage do.

    These are the files of their classes and of the classes' bases up to `Method`, of their options and of the
    options' bases. What such a file imports and calls is not followed: of the harness's own modules the versions
    above tell.
    """
    classes = {base for call in stage.calls for base in (*call.method.__mro__, *type(call.options).__mro__)}
    # What Method itself stands on (ABC, object), and other classes of Python's own, say nothing of one method.
    modules = {base.__module__ for base in classes - set(Method.__mro__)} - sys.stdlib_module_names
    return {name: _module_hash(name) for name in sorted(modules)}


def _module_hash(name: str) -> str:
    file = getattr(sys.modules.get(name), "__file__", None)
    # A class that was made in an interactive session has no file to hash.
    return code_hash(Path(file)) if file is not None and Path(file).suffix == ".py" else name


def resolved_options(stage: RecipeStage) -> list[tuple[str, dict[str, Any]]]:
    """Each method's id with all its options, the defaults written out: a recipe's text leaves them out."""
    return [(call.id, asdict(call.options)) for call in stage.calls]


def trained_options(stage: RecipeStage) -> list[tuple[str, dict[str, Any]]]:
    """As `resolved_options`, but of what is decided after the training only whether it is given."""
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
    """What an artifact depends on. `budgets` holds `baseline` and, for the stages of a recipe, `recipe`; `device`
    is the one that trains. With `training`, what the training of the last stage depends on, whatever is decided after
    it.
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
                "torch": version("torch").partition("+")[0],
                "tokenizers": version("tokenizers"),
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
            "methods": method_hashes(stage),
            "budget": budgets["recipe"] if stage.trains else None,
        }
    )
