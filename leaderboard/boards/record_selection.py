"""Records put together: the newest of each cell, profiles of one condition, and the costs of one artifact."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.common.errors import SkylineError, unknown_name
from harness.common.hardware import Hardware
from harness.records.schema import ArtifactFacts, Profile, Record, Workload
from leaderboard.boards.board import AXES, REALISED_COST, Axis, Failure, Row
from leaderboard.boards.names import Cards, claimed_costs, task_title

MEASURED_AXES: tuple[Axis, ...] = tuple(AXES[key] for key in ("disk", "flops", "latency", "memory"))


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
    """The part of a condition that the caller asked for; None is any."""

    hardware: str | None = None
    runtime: str | None = None
    device: str | None = None
    workload: Workload | tuple[int, int] | None = None

    def admits(self, condition: Condition) -> bool:
        """Whether `condition` is one of those asked for."""
        return (
            self.hardware in (None, condition.hardware)
            and self.runtime in (None, condition.runtime)
            and self.device in (None, condition.device)
            and self._shape() in (None, (condition.batch, condition.length))
        )

    def _shape(self) -> tuple[int, int] | None:
        if isinstance(self.workload, Workload):
            return (self.workload.batch, self.workload.length)
        return self.workload


@dataclass
class Shelf:
    """The records of one base model: quality by recipe, task and seed, and profiles of one condition."""

    quality: dict[str, dict[str, dict[int, Record]]] = field(default_factory=dict)
    profiles: dict[str, list[Record]] = field(default_factory=dict)
    failures: dict[str, list[Failure]] = field(default_factory=dict)
    condition: Condition | None = None
    hardware: Hardware | None = None
    skipped: list[str] = field(default_factory=list)
    used: list[Record] = field(default_factory=list)


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
            f"no profile was taken under the condition that was asked for; choose one of these: {known}"
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


def add_size(row: Row, facts: ArtifactFacts | None, base: ArtifactFacts | None) -> None:
    """Sizes of one artifact: bytes, and percent of the baseline's in the survey's convention."""
    if facts is None:
        return
    row.disk_bytes = facts.disk_bytes
    row.costs["disk"] = float(facts.disk_bytes)
    if base is None:
        return
    row.disk_pct = 100 * facts.disk_bytes / base.disk_bytes
    row.size_pct = 100 * facts.survey_params / base.survey_params
    if base.survey_params_without_embeddings:
        row.size_pct_without_embeddings = (
            100 * facts.survey_params_without_embeddings / base.survey_params_without_embeddings
        )


def add_profile(row: Row, profile: Profile, cards: Cards) -> None:
    """The costs that one profile measured; one that is not realised counts as no less than the baseline's."""
    total, latency = profile.total, profile.latency
    row.disk_bytes, row.flops = total.disk_bytes, total.flops
    memory = _memory(profile.device, total.peak_memory_bytes, total.accelerator_memory_bytes)
    row.peak_memory_bytes = memory
    row.workload, row.hardware = profile.workload, profile.hardware.id
    row.runtime, row.device = profile.executed_by, profile.device
    row.realised = {str(cost): flag for cost, flag in profile.realised.items()}
    row.simulated = sorted(
        cost for cost in claimed_costs(row.recipe, cards) if row.realised.get(cost) is False
    )
    row.costs |= {"disk": float(total.disk_bytes), "flops": float(total.flops)}
    if memory is not None:
        row.costs["memory"] = float(memory)
    if latency is not None:
        row.latency_ms, row.speedup_verdict = latency.median_ms, latency.verdict
        row.speedup_ci95 = latency.speedup_ci95
        if latency.verdict == "measured" and latency.speedup:
            row.speedup = latency.speedup
            row.costs["latency"] = 1 / latency.speedup
        else:
            row.notes.append(f"latency: no verdict, {_why_none(latency.speedup_ci95)}")
    if row.baseline:
        row.speedup, row.speedup_ci95, row.speedup_verdict = 1.0, None, None
        row.costs["latency"] = 1.0
        return
    _cap(row, profile)


def _why_none(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return "there were too few undisturbed pairs"
    return f"the speedup's interval [{interval[0]:.2f}, {interval[1]:.2f}] stayed too wide"


def _cap(row: Row, profile: Profile) -> None:
    base = profile.baseline
    floors = {"latency": 1.0}
    if base is not None:
        memory = _memory(profile.device, base.peak_memory_bytes, base.accelerator_memory_bytes)
        floors |= {"disk": float(base.disk_bytes), "flops": float(base.flops)}
        if memory is not None:
            floors["memory"] = float(memory)
    for axis, cost in REALISED_COST.items():
        if row.realised.get(cost) is False and axis in row.costs and axis in floors:
            row.costs[axis] = max(row.costs[axis], floors[axis])


def _memory(device: str, resident: int | None, accelerator: int | None) -> int | None:
    return accelerator if device != "cpu" and accelerator is not None else resident


def versions_of(records: Iterable[Record]) -> dict[str, str]:
    """The versions that the records were measured with; several of one package are all named."""
    found: dict[str, set[str]] = {}
    for record in records:
        for package, version in {"skyline": record.provenance.skyline, **record.provenance.versions}.items():
            found.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(versions)) for package, versions in sorted(found.items())}


def first_artifact(runs: Mapping[str, Mapping[int, Record]], tasks: Sequence[str]) -> list[Record]:
    """The quality records of a recipe, in the order of `tasks` and of the seeds."""
    return [runs[task][seed] for task in tasks if task in runs for seed in sorted(runs[task])]
