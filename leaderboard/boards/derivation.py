"""Derive a declaration for a folder that has none, such as a user's own run: the terms that most scores share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness.common.errors import NotComparable, unknown_name
from harness.recipes.recipe import BASELINE
from harness.records.schema import Profile, Record, Workload
from harness.tasks import task_names
from leaderboard.boards.declaration import Declaration
from leaderboard.boards.names import is_averaged, is_toy, task_title
from leaderboard.boards.record_selection import is_dev_score, pick_model
from leaderboard.boards.terms import Terms

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Derived:
    """A declaration, the tasks that enter the average, the terms of the scores by task, and notes on the choice."""

    declaration: Declaration
    compared: Sequence[str]
    terms: Mapping[str, Terms]
    notes: Sequence[str]


def derive(records: Sequence[Record], model: str | None, tasks: Sequence[str] | None) -> Derived:
    """Derive what belongs to a board from its records: at least one score on a dev split.

    The base model is `model` or the most frequent one; the protocol and the precision of training are those of the most
    scores, and the budget is that of the most scores on each task (the newest if several have as many). The tasks are
    `tasks`, or all real ones, or toy ones if there are no others. Raises SkylineError for an unknown model or task
    (unknown-name), and NotComparable if `tasks` mixes real and toy tasks.
    """
    scores = [record for record in records if is_dev_score(record)]
    chosen = pick_model(scores, model)
    columns = _columns([record for record in scores if record.model == chosen], tasks)
    own = [record for record in scores if record.model == chosen and record.task in columns]
    found = [record for record in own if record.quality is not None] or own
    protocol, precision = _most(found, _protocol_and_precision)
    alike = [
        record
        for record in found
        if Terms.of(record).protocol == protocol and Terms.of(record).precision in ("", precision)
    ]
    by_task = {task: [record for record in alike if record.task == task] for task in columns}
    terms = {
        task: Terms(protocol, _most(group, lambda record: Terms.of(record).budget), precision)
        for task, group in by_task.items()
        if group
    }
    shown = [task for task in columns if task in terms]
    based = {record.task for record in alike if record.recipe == BASELINE}
    compared = [
        task for task in shown if (is_averaged(task) or len(shown) == 1) and (not based or task in based)
    ]
    profiles = _profiles_of(alike, records)
    workloads = _by_frequency(profile.workload for profile in profiles)
    runtimes = _by_frequency(profile.runtime for profile in profiles if profile.precision == "float32")
    declaration = Declaration(
        title=f"Measured on {chosen}",
        model=chosen,
        tasks=tuple(shown),
        protocol=protocol,
        seeds=tuple(sorted({record.seed or 0 for record in alike})),
        workloads=tuple(workloads) or (Workload(batch=1, length=128),),
        runtimes=tuple(runtimes) or ("eager",),
    )
    return Derived(declaration, compared, terms, _notes(shown, compared))


def _columns(scores: Sequence[Record], wanted: Sequence[str] | None) -> list[str]:
    """Choose the tasks that the board shows."""
    known = sorted({record.task for record in scores if record.task}, key=_order)
    if wanted is None:
        return [task for task in known if not is_toy(task)] or known
    for task in wanted:
        if task not in known:
            raise unknown_name("task among the records", task, known)
    if len({is_toy(task) for task in wanted}) > 1:
        raise NotComparable("real tasks and toy tasks cannot be on one board; choose tasks of one kind")
    return sorted(set(wanted), key=_order)


def _order(task: str) -> tuple[int, str]:
    names = task_names()
    return (names.index(task) if task in names else len(names), task)


def _protocol_and_precision(record: Record) -> tuple[str | None, str]:
    terms = Terms.of(record)
    return terms.protocol, terms.precision


def _most(records: Sequence[Record], key: Callable[[Record], Key]) -> Key:
    """Return the most frequent key; of several, the one with the newest record."""
    groups: dict[Key, list[str]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record.provenance.started)
    return max(groups, key=lambda each: (len(groups[each]), max(groups[each])))


def _profiles_of(scores: Sequence[Record], records: Sequence[Record]) -> list[Profile]:
    """Find the profiles of scored artifacts."""
    hashes = {record.artifact.hash for record in scores if record.artifact is not None}
    return [
        record.profile
        for record in records
        if record.profile is not None and record.artifact is not None and record.artifact.hash in hashes
    ]


def _by_frequency(values: Iterable[Key]) -> list[Key]:
    return [value for value, _ in Counter(values).most_common()]


def _notes(shown: Sequence[str], compared: Sequence[str]) -> list[str]:
    notes = ["no file declares this board: it shows the base model, protocol and budgets of the most scores"]
    for task in shown:
        if task not in compared:
            why = "it is not averaged by convention" if not is_averaged(task) else "the baseline lacks it"
            notes.append(f"{task_title(task)} is shown but not part of the average: {why}")
    return notes
