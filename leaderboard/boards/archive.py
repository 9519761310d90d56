"""The archive: records of any terms, one row for each recipe, budget and precision. Nothing is ranked or averaged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from harness.common.errors import Code, SkylineError
from harness.recipes.recipe import BASELINE
from harness.records.schema import ArtifactFacts, Record
from harness.tasks import task_names
from leaderboard.boards.axes import AXES
from leaderboard.boards.board import Board
from leaderboard.boards.bootstrap import score
from leaderboard.boards.declaration import ArchiveDeclaration, matches
from leaderboard.boards.measured_row import compare, qualities
from leaderboard.boards.names import Cards, is_control, recipe_family, recipe_title
from leaderboard.boards.profile_costs import size_of
from leaderboard.boards.record_selection import Runs, failure_of, is_dev_score, versions_of
from leaderboard.boards.row import Costs, Row
from leaderboard.boards.terms import Terms

EVERYTHING = ArchiveDeclaration(kind="archive", title="All records")
Place = tuple[str, str, Terms]
"""What a row holds: base model, recipe and terms."""


def archive_board(
    records: Iterable[Record],
    declaration: ArchiveDeclaration = EVERYTHING,
    *,
    name: str = "",
    cards: Cards | None = None,
) -> Board:
    """Build the archive of the records that the declaration admits; every one of them is counted on a row.

    A row's drops are by task, against the baseline of the same budget and precision if there is one. A profile stands
    on the row of the scores of its artifact. Raises SkylineError (no-data) if no record is admitted.
    """
    cards = cards or {}
    found = [
        record
        for record in records
        if matches(record.model, declaration.models)
        and (record.recipe == BASELINE or matches(record.recipe, declaration.recipes))
    ]
    held_out = [record for record in found if record.kind == "quality" and not is_dev_score(record)]
    kept = [record for record in found if record.kind == "profile" or is_dev_score(record)]
    if not kept:
        raise SkylineError(
            f"no record belongs to the archive '{declaration.title}'; run something with `skyline run`",
            Code.NO_DATA,
        )
    places = _places(kept)
    baselines = _baselines(places)
    rows = [_row(place, held, baselines.get(_reference(place), []), cards) for place, held in places.items()]
    rows.sort(key=lambda row: (row.model, not row.baseline, row.title.lower(), row.id))
    tasks = {task for row in rows for task in row.scores}
    names = task_names()
    return Board(
        kind="archive",
        name=name,
        title=declaration.title,
        tasks=sorted(tasks, key=lambda task: (names.index(task) if task in names else len(names), task)),
        axes=(AXES["disk"],),
        axis="disk",
        rows=rows,
        versions=versions_of(kept),
        date=max(record.provenance.started for record in kept),
        notes=[
            f"{len(kept)} records in {len(rows)} rows: one for each recipe, base model, budget and precision",
            "nothing is ranked or averaged, because the terms of the rows differ",
            "drop: against the baseline of the same budget and precision, if there is one",
        ],
        skipped=[f"{len(held_out)} scores on a held-out slice of training data"] if held_out else [],
    )


def _places(records: Sequence[Record]) -> dict[Place, list[Record]]:
    """Sort records by row. Scores come first, so that a profile finds the row of its artifact."""
    places: dict[Place, list[Record]] = {}
    of_artifacts: dict[str, Place] = {}
    for record in sorted(records, key=lambda each: each.kind != "quality"):
        place = (record.model, record.recipe, Terms.of(record))
        if record.artifact is not None:
            place = (
                of_artifacts.setdefault(record.artifact.hash, place) if record.kind == "profile" else place
            )
            of_artifacts.setdefault(record.artifact.hash, place)
        places.setdefault(place, []).append(record)
    return places


def _reference(place: Place) -> tuple[str, str | None, str, str]:
    """Return what a row shares with its baseline."""
    model, _, terms = place
    return model, terms.protocol, terms.baseline_budget, terms.precision


def _baselines(
    places: Mapping[Place, Sequence[Record]],
) -> dict[tuple[str, str | None, str, str], list[Record]]:
    found: dict[tuple[str, str | None, str, str], list[Record]] = {}
    for place, held in places.items():
        if place[1] == BASELINE:
            found.setdefault(_reference(place), []).extend(held)
    return found


def _runs(records: Sequence[Record]) -> Runs:
    """Sort scores by task and seed; of several the newest."""
    runs: dict[str, dict[int, Record]] = {}
    for record in sorted(records, key=lambda each: each.provenance.started):
        if record.quality is not None and record.task is not None:
            runs.setdefault(record.task, {})[record.seed or 0] = record
    return runs


def _row(place: Place, held: Sequence[Record], baseline: Sequence[Record], cards: Cards) -> Row:
    model, recipe, terms = place
    runs, base = _runs(held), _runs(baseline)
    drops, notes = ({}, []) if recipe == BASELINE else compare(runs, base)
    failures = [failure_of(record) for record in held if record.quality is None and record.profile is None]
    facts = next((record.artifact for record in held if record.artifact is not None), None)
    identity = hashlib.sha256(repr(terms).encode()).hexdigest()[:8]
    return Row(
        id=f"{recipe}@{model}/{identity}",
        title=recipe_title(recipe, cards),
        family=recipe_family(recipe, cards),
        recipe=recipe,
        model=model,
        baseline=recipe == BASELINE,
        control=is_control(recipe, cards),
        scores={task: score(task, seeds) for task, seeds in qualities(runs).items()},
        drops=drops,
        costs=Costs(size=size_of(facts, _reference_artifact(baseline, held))),
        terms=terms,
        records=len(held),
        failures=tuple(failures),
        notes=tuple(notes),
    )


def _reference_artifact(baseline: Sequence[Record], held: Sequence[Record]) -> ArtifactFacts | None:
    """Return the baseline's artifact of the same task, or else any."""
    tasks = {record.task for record in held}
    found = sorted(baseline, key=lambda record: record.task not in tasks)
    return next((record.artifact for record in found if record.artifact is not None), None)
