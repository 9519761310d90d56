"""The scored records of one base model, grouped by what two scores must share to be compared."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from harness.recipes.recipe import BASELINE
from harness.records.schema import Quality, Record
from leaderboard.boards.record_selection import newest
from leaderboard.findings.one_answer import is_constant

BySeed: TypeAlias = Mapping[int, Record]


@dataclass(frozen=True)
class Terms:
    """What the scores of two recipes must share: protocol, precision of the training, budget (as JSON) and data.

    A protocol chooses the learning rate of each recipe by its own rule, so only budgets without a protocol contain it.
    """

    protocol: str | None
    precision: str
    budget: str
    data: str = ""

    @classmethod
    def of(cls, record: Record, part: str = "recipe") -> Terms:
        """Read the terms of a record, with the budget of its recipe or of its `baseline`."""
        protocol = record.cell.get("protocol")
        budget: dict[str, Any] = dict((record.cell.get("budget") or {}).get(part) or {})
        if protocol is not None:
            budget.pop("learning_rate", None)
        trained = record.quality.training if record.quality is not None else []
        precision = "+".join(sorted({stage.precision for stage in trained}))
        return cls(protocol, precision, json.dumps(budget, sort_keys=True), record.provenance.data or "")


@dataclass(frozen=True)
class ScoredRuns:
    """Records with a score on the dev split, by terms, recipe, task and seed."""

    by_terms: Mapping[Terms, Mapping[str, Mapping[str, BySeed]]]
    baselines: Mapping[tuple[Terms, str], BySeed]
    """The baseline's records, by the terms of its own training and the task."""

    @classmethod
    def of(cls, records: Iterable[Record], model: str, protocol: str | None = None) -> ScoredRuns:
        """Collect the records of a base model under a protocol, or all if `protocol` is None."""
        by_terms: dict[Terms, dict[str, dict[str, dict[int, Record]]]] = {}
        baselines: dict[tuple[Terms, str], dict[int, Record]] = {}
        for record in sorted(newest(records)[0], key=lambda each: each.provenance.started):
            if record.quality is None or record.task is None or record.model != model:
                continue
            if record.cell.get("split", "dev") != "dev":
                continue
            if protocol is not None and record.cell.get("protocol") != protocol:
                continue
            seed = record.seed or 0
            runs = by_terms.setdefault(Terms.of(record), {}).setdefault(record.recipe, {})
            runs.setdefault(record.task, {})[seed] = record
            if record.recipe == BASELINE:
                baselines.setdefault((Terms.of(record, "baseline"), record.task), {})[seed] = record
        return cls(by_terms, baselines)

    @property
    def tasks(self) -> list[str]:
        """All tasks with a score."""
        return sorted(
            {task for recipes in self.by_terms.values() for own in recipes.values() for task in own}
        )

    def places(self) -> Iterator[tuple[str, str]]:
        """Iterate over all pairs of a recipe and a task with a score, each once."""
        seen = {
            (recipe, task): None
            for recipes in self.by_terms.values()
            for recipe, own in recipes.items()
            for task in own
        }
        yield from seen

    def scored(self, recipe: str, task: str) -> bool:
        """Check whether a recipe has a score on a task, under any terms."""
        return any(task in recipes.get(recipe, {}) for recipes in self.by_terms.values())

    def shared(self, task: str, *recipes: str) -> tuple[BySeed, ...] | None:
        """Return the records of these recipes on a task under the same terms, each with the same seeds.

        Of several terms, those with the most shared seeds are chosen, then those of the newest record. None if there
        are no terms and seeds under which all of them were scored.
        """
        best: tuple[tuple[int, str], tuple[BySeed, ...]] | None = None
        for own in self.by_terms.values():
            runs = [own.get(recipe, {}).get(task, {}) for recipe in recipes]
            seeds = sorted(set.intersection(*(set(each) for each in runs)))
            if not seeds:
                continue
            chosen = tuple({seed: each[seed] for seed in seeds} for each in runs)
            newest_start = max(record.provenance.started for each in chosen for record in each.values())
            if best is None or (len(seeds), newest_start) > best[0]:
                best = (len(seeds), newest_start), chosen
        return None if best is None else best[1]

    def baseline_of(self, task: str, runs: BySeed) -> BySeed:
        """Return the baseline's records, by seed, from which these records of a recipe started."""
        found = {}
        for seed, record in runs.items():
            base = self.baselines.get((Terms.of(record, "baseline"), task), {}).get(seed)
            if base is not None:
                found[seed] = base
        return found

    def seed_variance(self, task: str) -> float | None:
        """Estimate the variance, over seeds, of the difference between a recipe and its baseline on a task.

        It is pooled over all recipes with at least two seeds: Σ (d − mean d)² / Σ (seeds − 1), in squared points. None
        if there is no such recipe. A recipe that gives one answer scores alike with every seed, and is left out.
        """
        squares, freedom = 0.0, 0
        for recipes in self.by_terms.values():
            for recipe, own in recipes.items():
                base = self.baseline_of(task, own.get(task, {})) if recipe != BASELINE else {}
                if len(base) < 2 or any(is_constant(task, quality_of(own[task][seed])) for seed in base):
                    continue
                differences = [points(quality_of(own[task][s])) - points(quality_of(base[s])) for s in base]
                squares += float(np.var(differences)) * len(differences)
                freedom += len(differences) - 1
        return squares / freedom if freedom else None


def quality_of(record: Record) -> Quality:
    """Return the scores of a record that has them."""
    assert record.quality is not None
    return record.quality


def qualities(runs: BySeed) -> dict[int, Quality]:
    """Return the scores of these records, by seed."""
    return {seed: quality_of(record) for seed, record in runs.items()}


def points(quality: Quality) -> float:
    """Return the score by the task's metric, in points."""
    return quality.scores[quality.metric]
