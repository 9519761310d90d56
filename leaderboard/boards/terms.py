"""The terms under which a score was trained. Scores of different terms never meet in one row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.records.schema import Record


@dataclass(frozen=True)
class Terms:
    """Protocol (None: a budget of one's own), budgets as canonical JSON, and precision of training ("" if unknown)."""

    protocol: str | None
    budget: str
    precision: str

    @classmethod
    def of(cls, record: Record) -> Terms:
        """Read the terms of a record. Its precision is bfloat16 if any stage trained in bfloat16."""
        stages = [] if record.quality is None else record.quality.training
        precisions = {stage.precision for stage in stages}
        precision = "bfloat16" if "bfloat16" in precisions else next(iter(precisions), "")
        return cls(record.cell.get("protocol"), _canonical(record.cell.get("budget")), precision)

    def fit(self, others: Terms) -> bool:
        """Check whether two scores were trained alike. An unknown precision fits any."""
        return (self.protocol, self.budget) == (others.protocol, others.budget) and self.precise_as(others)

    def precise_as(self, others: Terms) -> bool:
        """Check whether two scores were trained in the same precision, as far as that is known."""
        return "" in (self.precision, others.precision) or self.precision == others.precision

    @property
    def of_baseline(self) -> Terms:
        """The terms of the baseline's own training, which the budget of later stages does not change."""
        return replace(self, budget=self.baseline_budget)

    @property
    def baseline_budget(self) -> str:
        """The budget of the baseline that the recipe starts from, as canonical JSON."""
        budget: Mapping[str, Any] | None = json.loads(self.budget)
        return _canonical(None if budget is None else budget.get("baseline"))

    def __str__(self) -> str:
        """Write the terms in words, such as `baseline 5 epochs, lr 8e-05; recipe 3 epochs; bfloat16`."""
        budget: Mapping[str, Any] = json.loads(self.budget) or {}
        parts = [f"{who} {_in_words(budget[who])}" for who in ("baseline", "recipe") if budget.get(who)]
        protocol = [] if self.protocol is None else [f"protocol {self.protocol}"]
        return "; ".join([*protocol, *parts, *([self.precision] if self.precision else [])])


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _in_words(budget: Mapping[str, Any]) -> str:
    words = {"epochs": "{} epochs", "batch_size": "batch {}", "learning_rate": "rate {}"}
    words |= {"examples": "{} examples"}
    named = [words[name].format(f"{value:g}") for name, value in budget.items() if name in words]
    others = [f"{name} {value}" for name, value in budget.items() if name not in words]
    return ", ".join([*named, *others])
