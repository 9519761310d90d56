"""What boards call recipes, families, tasks and metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from harness.recipes.recipe import BASELINE
from harness.tasks import glue

COMBINATION = "combination"
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
    """The column of a published figure: the task's, or one of its own where the paper took another metric."""
    return task if metric in ("", primary_metric(task)) else f"{task}-{metric}"


def primary_metric(task: str) -> str:
    """The metric by which a task is scored."""
    return GLUE[task].metrics[0] if task in GLUE else {"squad": "f1"}.get(task, "accuracy")


def is_averaged(task: str) -> bool:
    """Whether a task enters averages. WNLI does not: its dev split contradicts its training split."""
    return task not in GLUE or GLUE[task].averaged


@dataclass(frozen=True)
class Part:
    """One method of a recipe with its options as written. `joint` comes before it: "", "+" or ">"."""

    method: str
    options: str
    joint: str


def recipe_parts(recipe: str) -> list[Part]:
    """The methods of a recipe as `str(Recipe)` writes it. They need not be installed: a board shows any record."""
    joint, parts = "", []
    for piece in re.split(r" ([>+]) ", recipe):
        if piece in ("+", ">"):
            joint = piece
        else:
            method, _, options = piece.partition(":")
            parts.append(Part(method, options, joint))
    return parts


def recipe_title(recipe: str, cards: Cards) -> str:
    """What a board calls a recipe: its methods' titles with their options, joined as it joins them."""
    title = ""
    for part in recipe_parts(recipe):
        plain = "Baseline" if part.method == BASELINE else part.method
        name = str(cards.get(part.method, {}).get("title") or plain)
        options = f" ({part.options.replace(',', ', ')})" if part.options else ""
        joint = f" {part.joint} " if part.joint else ""
        title += f"{joint}{name}{options}"
    return title


def recipe_family(recipe: str, cards: Cards) -> str:
    """The family of a recipe: its method's, or `combination` where it combines several."""
    parts = recipe_parts(recipe)
    if len(parts) > 1:
        return COMBINATION
    if parts[0].method == BASELINE:
        return BASELINE
    return str(cards.get(parts[0].method, {}).get("family") or "other")


def claimed_costs(recipe: str, cards: Cards) -> set[str]:
    """The costs that the methods of a recipe claim to reduce."""
    return {
        str(cost) for part in recipe_parts(recipe) for cost in cards.get(part.method, {}).get("reduces", ())
    }


def cost_title(cost: str) -> str:
    """What a board calls a cost of `harness.records.schema.COSTS`."""
    return {"flops": "FLOPs"}.get(cost, cost)


def task_title(task: str) -> str:
    """What a board calls a task or, of a task and another metric than its own (`qqp-f1`), both."""
    if task in GLUE:
        return GLUE[task].title
    name, _, metric = task.partition("-")
    if name in GLUE and metric in METRIC_TITLES:
        return f"{GLUE[name].title} {METRIC_TITLES[metric]}"
    return family_title(task) if is_toy(task) else OTHER_TITLES.get(task, task)


def family_title(family: str) -> str:
    """What a board calls a family, such as `Early exit` for `early-exit`."""
    return family.replace("-", " ").capitalize()


def is_toy(task: str) -> bool:
    """Whether a task is generated, and therefore never shares a board with real ones."""
    return task.startswith(TOY_PREFIX)
