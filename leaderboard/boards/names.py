"""The titles of recipes, families, tasks and metrics on boards."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from harness.recipes.recipe import BASELINE
from harness.tasks import glue

COMBINATION = "combination"
CONTROLS = "controls"
"""The family of controls."""
FINE_TUNING = "fine-tuning"
"""The control of equal budget: the baseline, trained on with its labels for the recipe's budget."""
CONTROL_METHODS = (FINE_TUNING, "majority", "random-pruning")
TOY_PREFIX = "toy-"

Cards = Mapping[str, Mapping[str, Any]]
"""Methods' cards as plain values (`Card.to_dict`), by method id."""

GLUE = MappingProxyType({spec.name: spec for spec in glue.TASKS})
OTHER_TITLES: Mapping[str, str] = MappingProxyType({"squad": "SQuAD", "glue": "GLUE average"})

METRIC_TITLES: Mapping[str, str] = MappingProxyType(
    {
        "accuracy": "accuracy",
        "f1": "F1",
        "exact_match": "exact match",
        "matthews_correlation": "Matthews correlation × 100",
        "pearson": "Pearson correlation × 100",
        "spearman": "Spearman correlation × 100",
    }
)


def claimed_column(task: str, metric: str) -> str:
    """Name the column of a published score: the task, or `task-metric` if the paper used another metric."""
    return task if metric in ("", primary_metric(task)) else f"{task}-{metric}"


def primary_metric(task: str) -> str:
    """Return the metric by which a task is scored."""
    return GLUE[task].metrics[0] if task in GLUE else {"squad": "f1"}.get(task, "accuracy")


def is_averaged(task: str) -> bool:
    """Check whether averages include a task. They leave out WNLI: its dev split contradicts its training split."""
    return task not in GLUE or GLUE[task].averaged


@dataclass(frozen=True)
class Part:
    """One method of a recipe with its options as written. `joint` is the sign before it: "", "+" or ">"."""

    method: str
    options: str
    joint: str


def recipe_parts(recipe: str) -> list[Part]:
    """Split a recipe into methods. They need not be installed, because a board shows any record."""
    joint, parts = "", []
    for piece in re.split(r" ([>+]) ", recipe):
        if piece in ("+", ">"):
            joint = piece
        else:
            method, _, options = piece.partition(":")
            parts.append(Part(method, options, joint))
    return parts


def recipe_title(recipe: str, cards: Cards) -> str:
    """Write a recipe with its methods' titles instead of their ids."""
    title = ""
    for part in recipe_parts(recipe):
        plain = "Baseline" if part.method == BASELINE else part.method
        name = str(cards.get(part.method, {}).get("title") or plain)
        options = f" ({part.options.replace(',', ', ')})" if part.options else ""
        joint = f" {part.joint} " if part.joint else ""
        title += f"{joint}{name}{options}"
    return title


def recipe_family(recipe: str, cards: Cards) -> str:
    """Return the family of a recipe's method, or `combination` if the recipe has several methods."""
    parts = recipe_parts(recipe)
    if len(parts) > 1:
        return COMBINATION
    if parts[0].method == BASELINE:
        return BASELINE
    return str(cards.get(parts[0].method, {}).get("family") or "other")


def is_control(recipe: str, cards: Cards) -> bool:
    """Check whether a recipe is a control: others are compared with it, and nobody proposes it."""
    (first, *others) = recipe_parts(recipe)
    family = cards.get(first.method, {}).get("family")
    return not others and (family == CONTROLS or first.method in CONTROL_METHODS)


def claimed_costs(recipe: str, cards: Cards) -> set[str]:
    """Collect the costs that the methods of a recipe claim to reduce."""
    return {
        str(cost) for part in recipe_parts(recipe) for cost in cards.get(part.method, {}).get("reduces", ())
    }


def cost_title(cost: str) -> str:
    """Return the title of a cost of `harness.records.schema.COSTS`."""
    return {"flops": "FLOPs"}.get(cost, cost)


def task_title(task: str) -> str:
    """Return the title of a task, or of a task and a metric other than its own (`qqp-f1`)."""
    if task in GLUE:
        return GLUE[task].title
    name, _, metric = task.partition("-")
    if name in GLUE and metric in METRIC_TITLES:
        return f"{GLUE[name].title} {METRIC_TITLES[metric]}"
    return family_title(task) if is_toy(task) else OTHER_TITLES.get(task, task)


def family_title(family: str) -> str:
    """Return the title of a family, such as `Early exit` for `early-exit`."""
    return family.replace("-", " ").capitalize()


def is_toy(task: str) -> bool:
    """Check whether a task is generated. Such a task is never on one board with real tasks."""
    return task.startswith(TOY_PREFIX)
