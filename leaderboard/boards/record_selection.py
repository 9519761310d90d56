"""Select the records of a board: the newest of each cell, one base model, profiles of one condition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.common.errors import unknown_name
from harness.common.hardware import Hardware
from harness.records.schema import Profile, Record, Workload
from leaderboard.boards.names import task_title
from leaderboard.boards.row import Failure


@dataclass(frozen=True)
class Condition:
    """The conditions that two profiles must share to be compared."""

    hardware: str
    runtime: str
    executed_by: str
    device: str
    batch: int
    length: int

    @classmethod
    def of(cls, profile: Profile) -> Condition:
        """Read the condition under which a profile was measured."""
        workload = profile.workload
        return cls(
            profile.hardware.id,
            profile.runtime,
            profile.executed_by,
            profile.device,
            workload.batch,
            workload.length,
        )

    def __str__(self) -> str:
        where = f"on {self.device}, hardware {self.hardware}"
        return f"({self.batch}, {self.length}) under {self.executed_by} {where}"


@dataclass(frozen=True)
class Shelf:
    """The records of one base model: scores by recipe, task and seed, and profiles of one condition by recipe.

    `skipped` has a line for every other condition.
    """

    quality: Mapping[str, Mapping[str, Mapping[int, Record]]]
    failures: Mapping[str, Sequence[Failure]]
    profiles: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    condition: Condition | None = None
    hardware: Hardware | None = None
    skipped: Sequence[str] = ()

    @property
    def workloads(self) -> list[Workload]:
        """The workload of each profile."""
        records = (record for own in self.profiles.values() for record in own)
        return [record.profile.workload for record in records if record.profile is not None]


def newest(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """Keep the latest record of each key (by start time), and write a line for each key that had several."""
    found: dict[str, Record] = {}
    counts: Counter[str] = Counter()
    for record in records:
        counts[record.key] += 1
        held = found.get(record.key)
        if held is None or record.provenance.started >= held.provenance.started:
            found[record.key] = record
    lines = [
        f"{count} records of cell {key}: the newest is used" for key, count in counts.items() if count > 1
    ]
    return list(found.values()), lines


def pick_model(records: Sequence[Record], wanted: str | None) -> tuple[str, list[str]]:
    """Choose a board's base model: `wanted`, or the one with the most records. Writes a line for each other model.

    Raises SkylineError (unknown-name) if no record is of the wanted model.
    """
    counts = Counter(record.model for record in records)
    if wanted is not None and wanted not in counts:
        raise unknown_name("base model among the records", wanted, counts)
    model = wanted if wanted is not None else min(counts, key=lambda name: (-counts[name], name))
    others = [
        f"{counts[name]} records of base model {name}: show them with --model {name}"
        for name in sorted(counts)
        if name != model
    ]
    return model, others


def shelve(records: Iterable[Record], model: str) -> Shelf:
    """Sort the records of `model`, and keep the profiles of the condition under which most recipes were measured."""
    quality: dict[str, dict[str, dict[int, Record]]] = {}
    failures: dict[str, list[Failure]] = {}
    profiles: dict[Condition, dict[str, list[Record]]] = {}
    machines: dict[Condition, Hardware] = {}
    for record in records:
        if record.model != model:
            continue
        if record.status != "ok" or (record.quality is None and record.profile is None):
            failures.setdefault(record.recipe, []).append(_failure(record))
        elif record.quality is not None and record.task is not None:
            quality.setdefault(record.recipe, {}).setdefault(record.task, {})[record.seed or 0] = record
        elif record.profile is not None:
            condition = Condition.of(record.profile)
            profiles.setdefault(condition, {}).setdefault(record.recipe, []).append(record)
            machines[condition] = record.profile.hardware
    if not profiles:
        return Shelf(quality, failures)
    chosen = min(
        profiles, key=lambda c: (-len(profiles[c]), c.device != "cpu", c.executed_by != "eager", str(c))
    )
    skipped = [
        f"profiles of {len(profiles[other])} recipes at {other}"
        for other in sorted(profiles, key=str)
        if other != chosen
    ]
    return Shelf(quality, failures, profiles[chosen], chosen, machines[chosen], skipped)


def _failure(record: Record) -> Failure:
    where = [] if record.task is None else [task_title(record.task)]
    if record.seed is not None:
        where.append(f"seed {record.seed}")
    what = " ".join(["profile" if record.kind == "profile" else "", ", ".join(where)]).strip() or record.kind
    status = record.status if record.status != "ok" else "empty"
    reason = record.reason or "no reason was recorded"
    return Failure(kind=record.kind, task=record.task, what=what, status=status, reason=reason)


def versions_of(records: Iterable[Record]) -> dict[str, str]:
    """Collect the versions of all packages that the records were measured with."""
    found: dict[str, set[str]] = {}
    for record in records:
        for package, version in {"skyline": record.provenance.skyline, **record.provenance.versions}.items():
            found.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(versions)) for package, versions in sorted(found.items())}


def artifact_id(record: Record) -> str:
    """Return the first 12 digits of the hash of a record's artifact."""
    return record.artifact.hash[:12] if record.artifact is not None else "unknown"


def first_artifact(runs: Mapping[str, Mapping[int, Record]], tasks: Sequence[str]) -> list[Record]:
    """Sort the quality records of a recipe by the order of `tasks`, then by seed."""
    return [runs[task][seed] for task in tasks if task in runs for seed in sorted(runs[task])]
