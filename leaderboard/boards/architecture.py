"""The architecture board: what recipes cost at a base model's full size, measured without any training."""

from __future__ import annotations

from collections.abc import Iterable

from harness.common.errors import SkylineError
from harness.records.schema import Record, Workload
from harness.runs.suites import load_suite
from leaderboard.boards.board import Board, Row, pick_axis
from leaderboard.boards.claims import claims_of
from leaderboard.boards.names import BASELINE, Cards, claimed_column, recipe_family, recipe_title, task_title
from leaderboard.boards.record_selection import (
    MEASURED_AXES,
    Shelf,
    Wanted,
    add_profile,
    add_size,
    newest,
    shelve,
    versions_of,
)


def architecture_board(
    records: Iterable[Record],
    base_model: str = "bert-base",
    *,
    cards: Cards | None = None,
    axis: str = "disk",
    workload: Workload | tuple[int, int] | None = None,
    hardware: str | None = None,
    runtime: str | None = None,
    device: str | None = None,
) -> Board:
    """The board of profiles whose artifacts were never scored: size, FLOPs, latency and memory, measured.

    `claimed` holds the scores as the method's paper published them; nothing here measures quality, so that
    there is neither drop nor front, and rows are in the order of their cost on `axis`. Raises SkylineError
    where there is no such profile.
    """
    cards = cards or {}
    axis = pick_axis(axis, [known.key for known in MEASURED_AXES])
    found, notes = newest(records)
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
            + (f"; --model shows what there is: {', '.join(others)}" if others else "")
        )
    shelf = shelve(here, base_model, Wanted(hardware, runtime, device, workload))
    recipes = dict.fromkeys([*shelf.profiles, *shelf.failures])
    rows = [_row(recipe, base_model, shelf, cards) for recipe in recipes]
    rows.sort(key=lambda row: (not row.baseline, axis not in row.costs, row.costs.get(axis, 0.0), row.id))
    used = [record for records_ in shelf.profiles.values() for record in records_]
    weights = sorted({record.provenance.weights for record in used})
    return Board(
        kind="architecture",
        title=f"Architectures at {base_model}'s size",
        model=base_model,
        axis=axis,
        axes=list(MEASURED_AXES),
        rows=rows,
        hardware=shelf.hardware,
        workload=next((r.profile.workload for r in used if r.profile is not None), None),
        runtime=shelf.condition.executed_by if shelf.condition else None,
        device=shelf.condition.device if shelf.condition else None,
        versions=versions_of(used),
        date=max((record.provenance.started for record in used), default=None),
        notes=[
            *notes,
            "costs are measured; accuracy is as each method's paper has it and compares with nothing here",
            "no front: nothing on this board measures quality",
            *([f"weights: {', '.join(weights)} (no cost on this board depends on them)"] if weights else []),
        ],
        skipped=[*shelf.skipped, *(f"profiles on base model {name}" for name in others)],
    )


def _row(recipe: str, model: str, shelf: Shelf, cards: Cards) -> Row:
    row = Row(
        id=f"{recipe}@{model}",
        title=recipe_title(recipe, cards),
        family=recipe_family(recipe, cards),
        recipe=recipe,
        model=model,
        baseline=recipe == BASELINE,
        failures=shelf.failures.get(recipe, []),
    )
    _add_claims(row, cards)
    records = shelf.profiles.get(recipe, [])
    if records and records[0].profile is not None:
        base = next((record.artifact for record in shelf.profiles.get(BASELINE, [])), None)
        add_size(row, records[0].artifact, base)
        add_profile(row, records[0].profile, cards)
        identity = records[0].artifact.hash[:12] if records[0].artifact is not None else "unknown"
        row.source = f"measured: costs of artifact {identity}"
    return row


def _add_claims(row: Row, cards: Cards) -> None:
    """Set what the method's paper published for the row's options and base model, and say where it stands."""
    variant = cards.get(row.recipe.partition(":")[0], {}).get("fidelity") == "variant"
    for claim in claims_of(row.recipe, row.model, cards):
        task = claimed_column(str(claim["task"]), str(claim.get("metric", "")))
        row.claimed[task] = float(claim["value"])
        split = claim.get("split", "unknown")
        split_text = "on a split that is not known" if split == "unknown" else f"on {split}"
        doubt = "" if claim.get("sure", True) else ", remembered of the paper, not read in it"
        where = f" ({claim['where']}{doubt})" if claim.get("where") else ""
        said = f"as published: {task_title(task)} {row.claimed[task]:g} {split_text}{where}"
        row.notes.append(said + ("; this method is a variant of the paper's" if variant else ""))


def _how_to_profile(model: str) -> str:
    if load_suite("quickstart").profile_model == model:
        return "`skyline run quickstart` does"
    return f"`skyline run SUITE.toml` does, with profile_model = '{model}' and a [[profiling]] table in the suite"
