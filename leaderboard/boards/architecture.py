"""The architecture board: the costs of recipes at a base model's full size, measured without training."""

from __future__ import annotations

import math
from collections.abc import Iterable

from harness.common.errors import Code, SkylineError
from harness.recipes.recipe import BASELINE
from harness.records.schema import Record
from harness.runs.suites import load_suite
from leaderboard.boards.axes import ARCHITECTURE_AXES, pick_axis
from leaderboard.boards.board import Board
from leaderboard.boards.claims import claimed_scores
from leaderboard.boards.names import Cards, recipe_family, recipe_title
from leaderboard.boards.profile_costs import profiled_costs, size_of
from leaderboard.boards.profile_selection import Shelf, shelve
from leaderboard.boards.record_selection import artifact_id, newest, versions_of
from leaderboard.boards.row import Costs, Row


def architecture_board(
    records: Iterable[Record],
    base_model: str = "bert-base",
    *,
    cards: Cards | None = None,
    axis: str = "disk",
) -> Board:
    """Build the board of profiles whose artifacts were never scored: size, FLOPs, latency and memory.

    No quality is measured on this board, so it has no drops and no front. Rows are sorted by their cost on `axis`. A
    row's `claimed` holds the scores that the method's paper published.

    Raises SkylineError if there is no such profile of `base_model` (no-data), or for an unknown axis (unknown-name).
    """
    cards = cards or {}
    axis = pick_axis(axis, ARCHITECTURE_AXES)
    found, notes = newest(records, by_machine=True)
    scored = {record.artifact.hash for record in found if record.quality is not None and record.artifact}
    profiles = [
        record
        for record in found
        if record.kind == "profile" and not (record.artifact is not None and record.artifact.hash in scored)
    ]
    here = [record for record in profiles if record.model == base_model]
    others = sorted({record.model for record in profiles} - {base_model})
    if not here:
        raise SkylineError(
            f"no recipe was profiled on {base_model} without training yet; {_how_to_profile(base_model)}"
            + (f", or choose --model: {', '.join(others)}" if others else ""),
            Code.NO_DATA,
        )
    shelf = shelve(here)
    recipes = dict.fromkeys([*shelf.profiles, *shelf.failures])
    rows = [_row(recipe, base_model, shelf, cards) for recipe in recipes]
    rows.sort(key=lambda row: (not row.baseline, row.costs.by_axis.get(axis, math.inf), row.id))
    used = [record for records_ in shelf.profiles.values() for record in records_]
    weights = sorted({record.provenance.weights for record in used})
    return Board(
        kind="architecture",
        title=f"Architectures at {base_model}'s size",
        model=base_model,
        axis=axis,
        rows=rows,
        hardware=shelf.hardware,
        workload=next(iter(shelf.workloads), None),
        runtime=shelf.condition.executed_by if shelf.condition else None,
        device=shelf.condition.device if shelf.condition else None,
        versions=versions_of(used),
        date=max((record.provenance.started for record in used), default=None),
        notes=[
            *notes,
            "costs are measured here; scores are the ones that each method's paper published, and cannot be compared",
            "no front: no quality is measured on this board",
            *([f"weights: {', '.join(weights)} (no cost on this board depends on them)"] if weights else []),
        ],
        skipped=[*shelf.skipped, *(f"profiles on base model {name}" for name in others)],
    )


def _row(recipe: str, model: str, shelf: Shelf, cards: Cards) -> Row:
    claimed, notes = claimed_scores(recipe, model, cards)
    record = next(iter(shelf.profiles.get(recipe, [])), None)
    costs = Costs()
    if record is not None and record.profile is not None:
        base = next((record.artifact for record in shelf.profiles.get(BASELINE, [])), None)
        source = f"measured: costs of artifact {artifact_id(record)}"
        size = size_of(record.artifact, base)
        costs, said = profiled_costs(record.profile, size, recipe, cards, source)
        notes += said
    return Row(
        id=f"{recipe}@{model}",
        title=recipe_title(recipe, cards),
        family=recipe_family(recipe, cards),
        recipe=recipe,
        model=model,
        baseline=recipe == BASELINE,
        costs=costs,
        claimed=claimed,
        failures=tuple(shelf.failures.get(recipe, [])),
        notes=tuple(notes),
    )


def _how_to_profile(model: str) -> str:
    if load_suite("quickstart").profile_model == model:
        return "use `skyline run quickstart`"
    return f"use `skyline run SUITE.toml`, the suite with profile_model = '{model}' and a [[profiling]] table"
