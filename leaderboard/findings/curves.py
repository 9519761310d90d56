"""Curves of accuracy against speed: the recorded settings of methods that trade one for the other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.common.errors import Code, SkylineError
from harness.recipes.recipe import BASELINE
from harness.records.schema import Profile, Quality, Record
from leaderboard.boards.bootstrap import score
from leaderboard.boards.names import Cards, recipe_parts, recipe_title, task_title
from leaderboard.boards.record_selection import newest
from leaderboard.findings.statements import MODEL
from leaderboard.tables.model import Column, Table, Value

METHODS = ("deebert", "fastbert", "pabee", "power-bert", "kd-logits")
"""Methods with a curve. Each recorded setting of one of them, not combined with other methods, is a point."""
THRESHOLDS = ("threshold", "patience")
COLUMNS = (
    Column("method", "Method"),
    Column("task", "Task"),
    Column("threshold", "Threshold", digits=3),
    Column("depth", "Mean depth", digits=2),
    Column("seeds", "Seeds"),
    Column("score", "Score"),
    Column("drop", "To baseline"),
    Column("flops_ratio", "FLOPs ratio", digits=2),
    Column("speedup", "Speedup", digits=2),
    Column("low", "95 % from", digits=2),
    Column("high", "to", digits=2),
)


def curves_table(
    records: Iterable[Record],
    model: str = MODEL,
    cards: Cards | None = None,
    methods: Sequence[str] = METHODS,
) -> Table:
    """Make the table of all recorded points of each method's curve, by task, the slowest first.

    Raises SkylineError (no-data) if there is no point.
    """
    runs: dict[tuple[str, str], dict[int, Quality]] = {}
    profiles: dict[tuple[str, str], list[Profile]] = {}
    for record in newest(records)[0]:
        if record.model != model or record.task is None:
            continue
        place = (record.recipe, record.task)
        if record.quality is not None:
            runs.setdefault(place, {})[record.seed or 0] = record.quality
        elif record.profile is not None:
            profiles.setdefault(place, []).append(record.profile)
    points = []
    for (recipe, task), seeds in runs.items():
        parts = recipe_parts(recipe)
        if recipe == BASELINE or len(parts) != 1 or parts[0].method not in methods:
            continue
        row = _point(task, seeds, profiles.get((recipe, task), []), runs.get((BASELINE, task), {}))
        curve = (methods.index(parts[0].method), task)
        points.append((curve, [recipe_title(recipe, cards or {}), task_title(task), *row]))
    if not points:
        raise SkylineError(
            f"no setting of {', '.join(methods)} is recorded on {model} yet; run one of them at several speeds",
            Code.NO_DATA,
        )
    slowest = [column.key for column in COLUMNS].index("flops_ratio")
    points.sort(key=lambda point: (point[0], point[1][slowest] or 0.0))
    return Table.of(
        name="curves",
        title=f"Accuracy against speed on {model}",
        columns=COLUMNS,
        rows=[row for _, row in points],
        notes=[
            "score: the task's metric on the dev split, mean over seeds",
            "FLOPs ratio and speedup: the baseline over the artifact, from the profile with the smallest batch (early "
            "exit: on texts of the dev split)",
            "threshold and mean depth: chosen and measured on training texts, first seed",
        ],
    )


def _point(
    task: str, seeds: dict[int, Quality], profiles: Sequence[Profile], base: dict[int, Quality]
) -> list[Value]:
    """Compute the figures of one point, from the column `threshold` on."""
    first = seeds[min(seeds)]
    figures = {name: value for stage in first.training for name, value in stage.figures.items()}
    threshold = next((figures[name] for name in THRESHOLDS if name in figures), None)
    mean = score(task, seeds).mean
    shared = sorted(seeds.keys() & base.keys())
    drop = None
    if shared:
        ours, theirs = ({seed: each[seed] for seed in shared} for each in (seeds, base))
        drop = score(task, ours).mean - score(task, theirs).mean
    ratio = speedup = low = high = None
    # Real texts say more than random ones, and a small batch shows best what early exit saves.
    for profile in sorted(profiles, key=lambda each: (each.workload.inputs != "real", each.workload.batch))[
        :1
    ]:
        ratio = profile.flops_ratio
        if profile.latency is not None:
            speedup, low, high = profile.latency.speedup_with_interval
    return [threshold, figures.get("mean_depth"), len(seeds), mean, drop, ratio, speedup, low, high]
