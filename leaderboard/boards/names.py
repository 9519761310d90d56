"""What boards call recipes, families and tasks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

BASELINE = "baseline"
COMBINATION = "combination"
TOY_PREFIX = "toy-"

Cards = Mapping[str, Mapping[str, Any]]
"""Methods' cards as plain values (`Card.to_dict`), by method id."""

TASK_TITLES: Mapping[str, str] = MappingProxyType(
    {
        "sst2": "SST-2",
        "mrpc": "MRPC",
        "rte": "RTE",
        "cola": "CoLA",
        "stsb": "STS-B",
        "wnli": "WNLI",
        "qnli": "QNLI",
        "qqp": "QQP",
        "mnli": "MNLI",
        "squad": "SQuAD",
        "toy-sentiment": "Toy sentiment",
        "toy-pairs": "Toy pairs",
        "glue": "GLUE average",
        "qqp-f1": "QQP F1",
        "cola-accuracy": "CoLA accuracy",
    }
)

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

PRIMARY_METRICS: Mapping[str, str] = MappingProxyType(
    {"cola": "matthews_correlation", "stsb": "pearson", "squad": "f1"}
)
"""By which tasks are scored that are not scored by accuracy."""


def claimed_column(task: str, metric: str) -> str:
    """The column of a published figure: the task's, or one of its own where the paper took another metric."""
    return task if not metric or metric == PRIMARY_METRICS.get(task, "accuracy") else f"{task}-{metric}"


SURVEY_FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "baseline": BASELINE,
        "quantization": "quantization",
        "unstructured pruning": "unstructured-pruning",
        "structured pruning": "structured-pruning",
        "KD from output logits": "distillation",
        "KD from attention maps": "distillation",
        "multiple KD combined": "distillation",
        "matrix decomposition": "matrix-decomposition",
        "dynamic inference": "dynamic-inference",
        "parameter sharing": "parameter-sharing",
        "pruning with KD": COMBINATION,
        "quantization with KD": COMBINATION,
        "compound": COMBINATION,
    }
)
"""The survey's families (Ganesh et al. 2021, Table 1) in the words of `harness.compression.card.FAMILIES`."""

# A plus or greater-than sign joins methods, unless it is the exponent's sign of a number.
_JOINT = re.compile(r"\s*(>|(?<![0-9][eE])\+)\s*")


@dataclass(frozen=True)
class Part:
    """One method of a recipe with its options as written; `joint` stands before it: "", "+" or ">"."""

    method: str
    options: str
    joint: str


def recipe_parts(recipe: str) -> list[Part]:
    """The methods of a recipe, in order. Takes any text: a board has to show what a record says."""
    pieces = _JOINT.split(recipe.strip())
    parts = []
    for index in range(0, len(pieces), 2):
        method, _, options = pieces[index].partition(":")
        parts.append(Part(method.strip(), options.strip(), pieces[index - 1] if index else ""))
    return parts


def recipe_title(recipe: str, cards: Cards) -> str:
    """What a board calls a recipe: its methods' titles with their options, joined as it joins them."""
    title = ""
    for part in recipe_parts(recipe):
        name = str(cards.get(part.method, {}).get("title") or _plain_title(part.method))
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
    """What a board calls a task."""
    return TASK_TITLES.get(task, task)


def family_title(family: str) -> str:
    """What a board calls a family."""
    return family.replace("-", " ").capitalize()


def is_toy(task: str) -> bool:
    """Whether a task is generated, and therefore never shares a board with real ones."""
    return task.startswith(TOY_PREFIX)


def _plain_title(method: str) -> str:
    return "Baseline" if method == BASELINE else method
