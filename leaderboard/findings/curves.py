"""Curves of accuracy against speed: the recorded settings of methods that trade one for the other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from harness.common.errors import Code, SkylineError
from harness.recipes.recipe import BASELINE
from harness.records.schema import Profile, Record
from leaderboard.boards.bootstrap import score
from leaderboard.boards.names import Cards, recipe_parts, recipe_title, task_title
from leaderboard.boards.record_selection import newest
from leaderboard.findings.scored_runs import BySeed, ScoredRuns, qualities, quality_of
from leaderboard.findings.statements import MODEL
from leaderboard.survey.reproduction import speedup_cells
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
    protocol: str | None = None,
) -> Table:
    """Make the table of all recorded points of each method's curve, by task, the slowest first.

    With a `protocol`, only its records are read. Raises SkylineError (no-data) if there is no point.
    """
    found = list(records)
    runs = ScoredRuns.of(found, model, protocol)
    profiles: dict[str, list[Profile]] = {}
    for record in newest(found)[0]:
        if record.profile is not None and record.artifact is not None and record.model == model:
            profiles.setdefault(record.artifact.hash, []).append(record.profile)
    points = []
    for recipe, task in runs.places():
        parts = recipe_parts(recipe)
        if recipe == BASELINE or len(parts) != 1 or parts[0].method not in methods:
            continue
        shared = runs.shared(task, recipe)
        assert shared is not None
        row = _point(task, shared[0], runs.baseline_of(task, shared[0]), profiles)
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
            "FLOPs ratio and speedup: the baseline over a scored artifact, from the profile with the smallest batch, "
            "on texts of the dev split if there is one; no verdict: the interval of the speedup was too wide",
            "threshold and mean depth: chosen and measured on training texts, first seed",
        ],
    )


def _point(task: str, runs: BySeed, base: BySeed, profiles: Mapping[str, Sequence[Profile]]) -> list[Value]:
    """Compute the figures of one point, from the column `threshold` on. `profiles` are those of each artifact."""
    first = quality_of(runs[min(runs)])
    figures = {name: value for stage in first.training for name, value in stage.figures.items()}
    threshold = next((figures[name] for name in THRESHOLDS if name in figures), None)
    mean = score(task, qualities(runs)).mean
    drop = None
    if base:
        ours, theirs = ({seed: each[seed] for seed in base} for each in (qualities(runs), qualities(base)))
        drop = score(task, ours).mean - score(task, theirs).mean
    ratio = speedup = low = high = None
    hashes = dict.fromkeys(record.artifact.hash for record in runs.values() if record.artifact is not None)
    own = [profile for artifact in hashes for profile in profiles.get(artifact, ())]
    # Real texts say more than random ones, and a small batch shows best what early exit saves.
    own.sort(key=lambda each: (each.workload.inputs != "real", each.workload.batch, each.runtime != "eager"))
    for profile in own[:1]:
        ratio = profile.flops_ratio
        if profile.latency is not None:
            speedup, low, high = speedup_cells(profile.latency)
    return [threshold, figures.get("mean_depth"), len(runs), mean, drop, ratio, speedup, low, high]
