"""Realised speedups: the measured speedup over the ratio of FLOPs, and the roofline of each pass.

The roofline says how close a pass comes to the machine's limit, from its FLOPs and the bytes that it moves.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.common.errors import Code, SkylineError
from harness.profiling.costs.traffic import roofline
from harness.recipes.recipe import BASELINE
from harness.records.schema import Profile, Record
from leaderboard.boards.names import Cards, recipe_title
from leaderboard.boards.record_selection import newest
from leaderboard.survey.reproduction import NO_VERDICT, speedup_cells
from leaderboard.tables.model import Column, Table, Value

COLUMNS = (
    Column("method", "Method"),
    Column("workload", "(batch, length)"),
    Column("device", "On"),
    Column("flops_ratio", "FLOPs ratio", digits=2),
    Column("speedup", "Speedup", digits=2),
    Column("low", "95 % from", digits=2),
    Column("high", "to", digits=2),
    Column("realised", "Speedup / FLOPs ratio", digits=2),
    Column("moved_mb", "Bytes moved", "MB"),
    Column("intensity", "FLOPs / byte"),
    Column("bound", "Bound"),
    Column("attained_pct", "Of the roofline", "%"),
)
RANK = [column.key for column in COLUMNS].index("realised")


def realisation_table(
    records: Iterable[Record], model: str = "bert-base", cards: Cards | None = None
) -> Table:
    """Make the table of the timed profiles of `model` that save FLOPs, the most realised first.

    A profile without a verdict on its speedup stands last. Profiles of the baseline are shown if the machine's ceilings
    were measured with them. Raises SkylineError (no-data) if no profiled recipe saves FLOPs.
    """
    found, _ = newest(records)
    rows, saving = [], False
    for record in found:
        profile = record.profile
        if profile is None or record.model != model or record.task is not None:
            continue
        itself = record.recipe == BASELINE
        row = _row(profile, recipe_title(record.recipe, cards or {}), itself)
        if row is not None:
            rows.append(row)
            saving = saving or not itself
    if not saving:
        raise SkylineError(
            f"no recipe that saves FLOPs was profiled on {model} yet; run `skyline run realised-speed`",
            Code.NO_DATA,
        )
    rows.sort(key=lambda row: (-_figure(row[RANK]), [str(cell) for cell in row[:3]]))
    return Table.of(
        name="realised",
        title=f"Measured speedup and saved FLOPs at {model}'s size",
        columns=COLUMNS,
        rows=rows,
        notes=_notes(rows),
    )


def _figure(value: Value) -> float:
    """Return a cell's figure, or 0 for a cell without one."""
    return float(value) if isinstance(value, int | float) else 0.0


def _notes(rows: list[list[Value]]) -> list[str]:
    notes = [
        "speedup: over the float32 baseline under the same runtime, measured in pairs; a speedup / FLOPs ratio of 1.00 "
        f"means that all saved FLOPs are realised; {NO_VERDICT}: the interval of the speedup was too wide"
    ]
    if any(row[-1] is not None for row in rows):
        notes += [
            "bytes moved by one pass: every weight is read once, in the width in which it is executed; every output of "
            "eager's modules is written and read once",
            "of the roofline: FLOP/s of the median pass over min(peak, FLOPs / byte × copy); PyTorch measured both "
            "ceilings in the same process, so caches, fused operators and other libraries' kernels can exceed 100 %",
        ]
    if any(row[-1] is None for row in rows):
        notes.append("–: the profile is older than the measurement of ceilings, or inputs exit early")
    return notes


def _row(profile: Profile, title: str, itself: bool) -> list[Value] | None:
    """Make a row; None for a profile that was not timed or saves no FLOPs (baseline: that has no ceilings)."""
    latency, ratio, roof = profile.latency, profile.flops_ratio, roofline(profile)
    if latency is None or ratio is None:
        return None
    if roof is None if itself else ratio <= 1:
        return None
    row: list[Value] = [
        title,
        str(profile.workload),
        f"{profile.executed_by}, {profile.device}",
        ratio,
        *speedup_cells(latency),
        None if latency.speedup is None else latency.speedup / ratio,
    ]
    if roof is None:
        return [*row, None, None, None, None]
    return [*row, roof.traffic.total / 1e6, roof.intensity, roof.bound, 100 * roof.share]
