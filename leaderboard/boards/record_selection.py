"""Which records stand on a board: the newest of each cell, one base model, profiles of one condition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.common.errors import Code, SkylineError, unknown_name
from harness.common.hardware import Hardware
from harness.records.schema import Profile, Record
from leaderboard.boards.names import task_title
from leaderboard.boards.row import Failure


@dataclass(frozen=True)
class Condition:
    """What has to be alike for two profiles to be compared."""

    hardware: str
    runtime: str
    executed_by: str
    device: str
    batch: int
    length: int

    def __str__(self) -> str:
        where = f"on {self.device}, hardware {self.hardware}"
        return f"({self.batch}, {self.length}) under {self.executed_by} {where}"


@dataclass(frozen=True)
class Wanted:
    """The part of a condition that the caller asked for; None is any. `shape` is (batch, length)."""

    hardware: str | None = None
    runtime: str | None = None
    device: str | None = None
    shape: tuple[int, int] | None = None

    def admits(self, condition: Condition) -> bool:
        """Whether `condition` is one of those asked for."""
        return (
            self.hardware in (None, condition.hardware)
            and self.runtime in (None, condition.runtime)
            and self.device in (None, condition.device)
            and self.shape in (None, (condition.batch, condition.length))
        )


ANY = Wanted()


@dataclass
class Shelf:
    """The records of one base model: quality by recipe, task and seed, and profiles of one condition."""

    quality: dict[str, dict[str, dict[int, Record]]] = field(default_factory=dict)
    profiles: dict[str, list[Record]] = field(default_factory=dict)
    failures: dict[str, list[Failure]] = field(default_factory=dict)
    condition: Condition | None = None
    hardware: Hardware | None = None
    skipped: list[str] = field(default_factory=list)


def newest(records: Iterable[Record]) -> tuple[list[Record], list[str]]:
    """One record for each key, the one started last, and a line for each key that had several."""
    found: dict[str, Record] = {}
    counts: Counter[str] = Counter()
    for record in records:
        counts[record.key] += 1
        held = found.get(record.key)
        if held is None or record.provenance.started >= held.provenance.started:
            found[record.key] = record
    lines = [
        f"{count} records of cell {key}: the newest counts" for key, count in counts.items() if count > 1
    ]
    return list(found.values()), lines


def pick_model(records: Sequence[Record], wanted: str | None) -> tuple[str, list[str]]:
    """The base model that a board shows: `wanted`, or that with the most records; and a line for each other.

    Raises SkylineError where no record is of the wanted model.
    """
    counts = Counter(record.model for record in records)
    if wanted is not None and wanted not in counts:
        raise unknown_name("base model among the records", wanted, counts)
    model = wanted if wanted is not None else min(counts, key=lambda name: (-counts[name], name))
    others = [
        f"{counts[name]} records of base model {name}: choose it to see them"
        for name in sorted(counts)
        if name != model
    ]
    return model, others


def shelve(records: Sequence[Record], model: str, wanted: Wanted) -> Shelf:
    """Sort the records of `model`. Raises SkylineError where no profile is of the wanted condition."""
    shelf = Shelf()
    profiles = []
    for record in records:
        if record.model != model:
            continue
        if record.status != "ok" or (record.quality is None and record.profile is None):
            shelf.failures.setdefault(record.recipe, []).append(_failure(record))
        elif record.quality is not None and record.task is not None:
            runs = shelf.quality.setdefault(record.recipe, {}).setdefault(record.task, {})
            runs[record.seed if record.seed is not None else 0] = record
        elif record.profile is not None:
            profiles.append(record)
    _choose_profiles(shelf, profiles, wanted)
    return shelf


def condition_of(profile: Profile) -> Condition:
    """The condition that a profile was taken under."""
    return Condition(
        hardware=profile.hardware.id,
        runtime=profile.runtime,
        executed_by=profile.executed_by,
        device=profile.device,
        batch=profile.workload.batch,
        length=profile.workload.length,
    )


def _choose_profiles(shelf: Shelf, profiles: Sequence[Record], wanted: Wanted) -> None:
    """Keep the profiles of the condition under which most recipes were measured; the others are listed."""
    recipes: dict[Condition, set[str]] = {}
    for record in profiles:
        if record.profile is not None:
            recipes.setdefault(condition_of(record.profile), set()).add(record.recipe)
    admitted = [condition for condition in recipes if wanted.admits(condition)]
    if recipes and not admitted:
        known = "; ".join(sorted(str(condition) for condition in recipes))
        raise SkylineError(
            f"no profile was taken under the condition that was asked for; choose one of these: {known}",
            Code.NO_DATA,
        )
    if not admitted:
        return
    shelf.condition = min(
        admitted,
        key=lambda c: (-len(recipes[c]), c.device != "cpu", c.executed_by != "eager", str(c)),
    )
    for record in profiles:
        profile = record.profile
        if profile is None:
            continue
        if condition_of(profile) == shelf.condition:
            shelf.profiles.setdefault(record.recipe, []).append(record)
            shelf.hardware = profile.hardware
    shelf.skipped += [
        f"profiles of {len(found)} recipes taken at {condition}"
        for condition, found in sorted(recipes.items(), key=lambda item: str(item[0]))
        if condition != shelf.condition
    ]


def _failure(record: Record) -> Failure:
    where = [] if record.task is None else [task_title(record.task)]
    if record.seed is not None:
        where.append(f"seed {record.seed}")
    what = " ".join(["profile" if record.kind == "profile" else "", ", ".join(where)]).strip() or record.kind
    status = record.status if record.status != "ok" else "empty"
    reason = record.reason or "no reason was recorded"
    return Failure(kind=record.kind, task=record.task, what=what, status=status, reason=reason)


def versions_of(records: Iterable[Record]) -> dict[str, str]:
    """The versions that the records were measured with; several of one package are all named."""
    found: dict[str, set[str]] = {}
    for record in records:
        for package, version in {"skyline": record.provenance.skyline, **record.provenance.versions}.items():
            found.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(versions)) for package, versions in sorted(found.items())}


def artifact_id(record: Record) -> str:
    """The beginning of the hash of a record's artifact, as boards print it."""
    return record.artifact.hash[:12] if record.artifact is not None else "unknown"


def first_artifact(runs: Mapping[str, Mapping[int, Record]], tasks: Sequence[str]) -> list[Record]:
    """The quality records of a recipe, in the order of `tasks` and of the seeds."""
    return [runs[task][seed] for task in tasks if task in runs for seed in sorted(runs[task])]
