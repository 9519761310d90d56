"""How much of the arithmetic that a recipe saves comes back as time: the measured speedup over the ratio of FLOPs."""

from __future__ import annotations

from collections.abc import Iterable

from harness.errors import SkylineError
from harness.records import Profile, Record
from leaderboard.joining import newest
from leaderboard.names import BASELINE, Cards, recipe_title
from leaderboard.plain_tables import Cell, Column, PlainTable

COLUMNS = (
    Column(key="method", heading="Method"),
    Column(key="workload", heading="(batch, length)"),
    Column(key="device", heading="On"),
    Column(key="flops_ratio", heading="FLOPs ratio", digits=2),
    Column(key="speedup", heading="Speedup", digits=2),
    Column(key="low", heading="95 % from", digits=2),
    Column(key="high", heading="to", digits=2),
    Column(key="realised", heading="Speedup / FLOPs ratio", digits=2),
)


def realisation_table(
    records: Iterable[Record], model: str = "bert-base", cards: Cards | None = None
) -> PlainTable:
    """Every profile of `model` that has a speedup and fewer FLOPs than its baseline, the most realised first.
    Raises SkylineError where there is none.
    """
    found, _ = newest(records)
    rows = []
    for record in found:
        profile = record.profile
        if profile is None or record.model != model or record.task is not None or record.recipe == BASELINE:
            continue
        row = _row(profile, recipe_title(record.recipe, cards or {}))
        if row is not None:
            rows.append(row)
    if not rows:
        raise SkylineError(
            f"no recipe that saves FLOPs was profiled on {model} yet; `skyline run survey-sizes` does"
        )
    rows.sort(key=lambda row: -float(row[-1] or 0.0))
    return PlainTable(
        name="realised",
        title=f"What saved arithmetic brings in time at {model}'s size",
        columns=list(COLUMNS),
        rows=rows,
        notes=[
            "speedup: paired with the float32 baseline; 1.00 in the last column is all that FLOPs promise"
        ],
    )


def _row(profile: Profile, title: str) -> list[Cell] | None:
    latency, base = profile.latency, profile.baseline
    if latency is None or latency.speedup is None or base is None or profile.total.flops >= base.flops:
        return None
    ratio = base.flops / profile.total.flops
    low, high = latency.speedup_ci95 or (None, None)
    workload = f"({profile.workload.batch}, {profile.workload.length})"
    on = f"{profile.executed_by}, {profile.device}"
    return [title, workload, on, ratio, latency.speedup, low, high, latency.speedup / ratio]
