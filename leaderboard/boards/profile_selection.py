"""Select the profiles of one base model that were measured under one condition, so that they can be compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.common.hardware import Hardware
from harness.records.schema import Profile, Record, Workload
from leaderboard.boards.record_selection import failure_of, machine_of
from leaderboard.boards.row import Failure


@dataclass(frozen=True)
class Condition:
    """The conditions that two profiles must share to be compared."""

    hardware: str
    runtime: str
    executed_by: str
    device: str
    workload: Workload

    @classmethod
    def of(cls, profile: Profile) -> Condition:
        """Read the condition under which a profile was measured."""
        return cls(
            profile.hardware.id, profile.runtime, profile.executed_by, profile.device, profile.workload
        )

    def concerns(self, failed: Record) -> bool:
        """Check whether a cell that failed would have been measured so; a row wears no failure of another runtime."""
        cell = failed.cell
        own = self.workload.model_dump()
        return bool(
            cell.get("runtime", self.runtime) == self.runtime
            and cell.get("precision", "float32") == "float32"
            and cell.get("workload", own) == own
            and machine_of(failed) == self.hardware
        )

    def __str__(self) -> str:
        where = f"on {self.device}, hardware {self.hardware}"
        return f"{self.workload}, {self.workload.inputs} rows, under {self.executed_by} {where}"


@dataclass(frozen=True)
class Shelf:
    """The profiles of one base model under one condition, and the cells that failed under it, by recipe.

    `skipped` has a line for every other condition.
    """

    profiles: Mapping[str, Sequence[Record]] = field(default_factory=dict)
    failures: Mapping[str, Sequence[Failure]] = field(default_factory=dict)
    condition: Condition | None = None
    hardware: Hardware | None = None
    skipped: Sequence[str] = ()

    @property
    def workloads(self) -> list[Workload]:
        """The workload of each profile."""
        records = (record for own in self.profiles.values() for record in own)
        return [record.profile.workload for record in records if record.profile is not None]


def shelve(records: Iterable[Record]) -> Shelf:
    """Sort profiles by recipe, the newest first, and keep the condition under which most recipes were measured.

    Suites with other time caps leave several profiles of one condition.
    """
    failed: list[Record] = []
    profiles: dict[Condition, dict[str, list[Record]]] = {}
    machines: dict[Condition, Hardware] = {}
    for record in sorted(records, key=lambda each: each.provenance.started, reverse=True):
        if record.status != "ok" or record.profile is None:
            failed.append(record)
        else:
            condition = Condition.of(record.profile)
            profiles.setdefault(condition, {}).setdefault(record.recipe, []).append(record)
            machines[condition] = record.profile.hardware
    failures: dict[str, list[Failure]] = {}
    if not profiles:
        for record in failed:
            failures.setdefault(record.recipe, []).append(failure_of(record))
        return Shelf(failures=failures)
    chosen = min(
        profiles, key=lambda c: (-len(profiles[c]), c.device != "cpu", c.executed_by != "eager", str(c))
    )
    for record in failed:
        if chosen.concerns(record):
            failures.setdefault(record.recipe, []).append(failure_of(record))
    skipped = [
        f"profiles of {len(profiles[other])} recipes at {other}"
        for other in sorted(profiles, key=str)
        if other != chosen
    ]
    elsewhere = sum(not chosen.concerns(record) for record in failed)
    if elsewhere:
        skipped.append(f"{elsewhere} failed profiles under other conditions")
    return Shelf(profiles[chosen], failures, chosen, machines[chosen], skipped)
