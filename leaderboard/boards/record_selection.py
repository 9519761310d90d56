"""Select the records of a measured board: one base model, one protocol, one budget for each recipe on each task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.common.errors import unknown_name
from harness.recipes.recipe import BASELINE
from harness.records.schema import Record
from leaderboard.boards.declaration import Declaration, matches
from leaderboard.boards.names import is_toy, task_title
from leaderboard.boards.row import Failure
from leaderboard.boards.terms import Terms

Runs = Mapping[str, Mapping[int, Record]]
"""The scored records of one recipe, by task and seed."""


@dataclass(frozen=True)
class Selection:
    """The records of one board: scores by recipe, task and seed; profiles by the hash of their artifact; failures.

    `skipped` has a line for everything that was left out.
    """

    runs: Mapping[str, Runs]
    profiles: Mapping[str, Sequence[Record]]
    failures: Mapping[str, Sequence[Failure]]
    skipped: Sequence[str] = ()

    @property
    def recipes(self) -> list[str]:
        """The recipes with a score or a failed score. A recipe that was only profiled has no row."""
        failed = [
            recipe
            for recipe, failures in self.failures.items()
            if any(failure.kind == "quality" for failure in failures)
        ]
        return list(dict.fromkeys([*self.runs, *failed]))

    @property
    def records(self) -> Iterator[Record]:
        """All records with figures."""
        for runs in self.runs.values():
            for seeds in runs.values():
                yield from seeds.values()
        for own in self.profiles.values():
            yield from own


@dataclass
class _Counts:
    """Counts what is left out, by the reason."""

    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, what: str, records: int = 1) -> None:
        self.reasons[what] += records

    def lines(self) -> list[str]:
        return [f"{count} {what}" for what, count in self.reasons.items()]


def newest(records: Iterable[Record], *, by_machine: bool = False) -> tuple[list[Record], list[str]]:
    """Keep the latest record of each key (by start time), and write a line for each key that had several.

    With `by_machine`, profiles of one cell on two machines are both kept: a cell's key does not name the machine.
    """
    found: dict[tuple[str, str], Record] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for record in records:
        machine = machine_of(record) if by_machine and record.kind == "profile" else ""
        place = (record.key, machine)
        counts[place] += 1
        held = found.get(place)
        if held is None or record.provenance.started >= held.provenance.started:
            found[place] = record
    lines = [
        f"{count} records of cell {key}: the newest is used"
        for (key, _), count in counts.items()
        if count > 1
    ]
    return list(found.values()), lines


def machine_of(record: Record) -> str:
    """Return the hardware on which a cell was measured, or failed."""
    return record.provenance.hardware.id if record.profile is None else record.profile.hardware.id


def pick_model(records: Sequence[Record], wanted: str | None) -> str:
    """Choose a board's base model: `wanted`, or the one with the most records.

    Raises SkylineError (unknown-name) if no record is of the wanted model.
    """
    counts = Counter(record.model for record in records)
    if wanted is not None and wanted not in counts:
        raise unknown_name("base model among the records", wanted, counts)
    return wanted if wanted is not None else min(counts, key=lambda name: (-counts[name], name))


def is_dev_score(record: Record) -> bool:
    """Check whether a record belongs to a score on the dev split; choices are made on other splits."""
    return record.kind == "quality" and record.cell.get("split", "dev") == "dev"


def select(
    records: Sequence[Record], declared: Declaration, terms: Mapping[str, Terms] | None = None
) -> Selection:
    """Select the newest records that the declaration admits.

    `terms` are those of a derived board by task. Without them, the newest budget and precision of each recipe on each
    task is used, and other ones are skipped.
    """
    counts = _Counts()
    scores, failed = [], []
    for record in records:
        if record.kind != "quality":
            continue
        why = _obstacle(record, declared, derived=terms is not None)
        if why:
            counts.add(why)
        elif record.quality is None or record.status != "ok":
            failed.append(record)
        else:
            scores.append(record)
    runs = _of_one_budget(scores, terms, counts)
    hashes = {
        record.artifact.hash
        for own in runs.values()
        for seeds in own.values()
        for record in seeds.values()
        if record.artifact is not None
    }
    profiles, failed_profiles = _profiles(records, declared, hashes, counts)
    failures: dict[str, list[Failure]] = {}
    for record in [*failed, *failed_profiles]:
        wanted = None if terms is None else terms.get(record.task or "")
        own = _terms(record.recipe, Terms.of(record))
        if wanted is None or own.budget == _terms(record.recipe, wanted).budget:
            failures.setdefault(record.recipe, []).append(failure_of(record))
    return Selection(runs, profiles, failures, counts.lines())


def _obstacle(record: Record, declared: Declaration, derived: bool) -> str:
    """Say why a score is not on the board; empty if it is."""
    if record.model != declared.model:
        how = f" (--model {record.model})" if derived else ""
        return f"scores on base model {record.model}: another board{how}"
    if not is_dev_score(record):
        return "scores on a held-out slice of training data: choices are made on them"
    if record.task not in declared.tasks:
        toy = is_toy(record.task or "") and not any(map(is_toy, declared.tasks))
        why = "toy tasks are not shown with real tasks" if toy else "not on this board"
        return f"scores on {task_title(record.task or '')}: {why}"
    if record.cell.get("protocol") != declared.protocol:
        protocol = record.cell.get("protocol")
        return f"scores {f'of protocol {protocol}' if protocol else 'without a protocol'}"
    if record.recipe != BASELINE and not matches(record.recipe, declared.recipes):
        return "scores of recipes that the board does not name"
    if record.seed not in declared.seeds:
        return f"scores of seed {record.seed}"
    return ""


def _of_one_budget(
    records: Sequence[Record], terms: Mapping[str, Terms] | None, counts: _Counts
) -> dict[str, dict[str, dict[int, Record]]]:
    """Sort scores by recipe, task and seed, keeping one budget and precision of each recipe on each task.

    Of the baseline only its own budget counts: it is the same artifact whatever the budget of recipes is.
    """
    groups: dict[tuple[str, str], dict[Terms, list[Record]]] = {}
    for record in records:
        assert record.task is not None
        own = _terms(record.recipe, Terms.of(record))
        groups.setdefault((record.recipe, record.task), {}).setdefault(own, []).append(record)
    runs: dict[str, dict[str, dict[int, Record]]] = {}
    for (recipe, task), by_terms in groups.items():
        latest = max(by_terms, key=lambda each: max(r.provenance.started for r in by_terms[each]))
        wanted = latest if terms is None else _terms(recipe, terms[task])
        kept: list[Record] = []
        for own, found in by_terms.items():
            if own.fit(wanted) if terms is not None else own == wanted:
                kept += found
            else:
                what = (
                    f"{recipe} on {task_title(task)} under" if terms is None else f"{task_title(task)} under"
                )
                other = Terms.of(found[0])
                counts.add(f"scores of {what} another budget or precision ({other})", len(found))
        for record in sorted(kept, key=lambda each: each.provenance.started):
            seeds = runs.setdefault(recipe, {}).setdefault(task, {})
            if (record.seed or 0) in seeds:
                what = f"scores of {recipe} on {task_title(task)}, seed {record.seed or 0}"
                counts.add(f"{what}: a newer one of another device or task description is used")
            seeds[record.seed or 0] = record
    return runs


def _terms(recipe: str, terms: Terms) -> Terms:
    return terms.of_baseline if recipe == BASELINE else terms


def _profiles(
    records: Sequence[Record], declared: Declaration, hashes: set[str], counts: _Counts
) -> tuple[dict[str, list[Record]], list[Record]]:
    """Select the profiles of the scored artifacts `hashes`, and the profiles that failed."""
    profiles: dict[str, list[Record]] = {}
    failed = []
    for record in records:
        if record.kind != "profile" or record.model != declared.model:
            continue
        if record.profile is None or record.status != "ok":
            if _concerns(record, declared):
                failed.append(record)
            continue
        profile = record.profile
        if record.artifact is None or record.artifact.hash not in hashes:
            counts.add("profiles of artifacts without a score on this board")
        elif profile.workload not in declared.workloads:
            counts.add(f"profiles at {profile.workload}, {profile.workload.inputs} rows")
        elif profile.precision != "float32" or profile.runtime not in declared.runtimes:
            counts.add(f"profiles under {profile.executed_by}")
        elif not matches(profile.hardware.id, declared.hardware):
            counts.add(f"profiles on hardware {profile.hardware.id}")
        else:
            profiles.setdefault(record.artifact.hash, []).append(record)
    for own in profiles.values():
        own.sort(key=lambda record: record.provenance.started, reverse=True)
    return profiles, failed


def _concerns(record: Record, declared: Declaration) -> bool:
    """Check whether a failed profile is of a task, protocol, workload, runtime and machine of the board, in float32."""
    cell = record.cell
    workload = cell.get("workload")
    return (
        (record.task is None or record.task in declared.tasks)
        and cell.get("protocol") == declared.protocol
        and cell.get("precision", "float32") == "float32"
        and cell.get("runtime", declared.runtimes[0]) in declared.runtimes
        and (workload is None or any(workload == each.model_dump() for each in declared.workloads))
        and (record.recipe == BASELINE or matches(record.recipe, declared.recipes))
        and matches(machine_of(record), declared.hardware)
    )


def failure_of(record: Record) -> Failure:
    """Describe a cell without figures."""
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
