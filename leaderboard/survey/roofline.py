"""How much of the arithmetic that a recipe saves comes back as time: the measured speedup over the ratio of FLOPs; and
how near each pass comes to what the machine allows, by a roofline over the bytes that it moves.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.common.errors import Code, SkylineError
from harness.profiling.costs.traffic import roofline
from harness.recipes.recipe import BASELINE
from harness.records.schema import Profile, Record
from leaderboard.boards.names import Cards, recipe_title
from leaderboard.boards.record_selection import newest
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
    """Every profile of `model` that has a speedup and fewer FLOPs than its baseline, the most realised first; and those
    of the baseline itself that were held against the machine's ceilings. Raises SkylineError where no recipe saves any.
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
            f"no recipe that saves FLOPs was profiled on {model} yet; `skyline run realised-speed` does",
            Code.NO_DATA,
        )
    rows.sort(key=lambda row: (-float(row[RANK] or 0.0), [str(cell) for cell in row[:3]]))
    return Table.of(
        name="realised",
        title=f"What saved arithmetic brings in time at {model}'s size",
        columns=COLUMNS,
        rows=rows,
        notes=_notes(rows),
    )


def _notes(rows: list[list[Value]]) -> list[str]:
    notes = [
        "speedup: paired with the float32 baseline under the same runtime; 1.00 in the column beside its interval is "
        "all that FLOPs promise"
    ]
    if any(row[-1] is not None for row in rows):
        notes += [
            "bytes moved by one pass: each weight read once in the width in which it is executed, each activation that "
            "eager's modules put out written and read once",
            "of the roofline: FLOP/s of the median pass over min(peak, FLOPs / byte × copy), both ceilings measured by "
            "PyTorch in the same process; caches, fused operators and another library's kernels can bring it above "
            "100 %",
        ]
    if any(row[-1] is None for row in rows):
        notes.append("–: profiled before ceilings were measured beside it, or rows leave early")
    return notes


def _row(profile: Profile, title: str, itself: bool) -> list[Value] | None:
    """A row of the table, None for what does not belong there: without a verdict, without FLOPs saved; of the baseline,
    without ceilings.
    """
    latency, ratio, roof = profile.latency, profile.flops_ratio, roofline(profile)
    if latency is None or latency.speedup is None or ratio is None:
        return None
    if roof is None if itself else ratio <= 1:
        return None
    row: list[Value] = [
        title,
        str(profile.workload),
        f"{profile.executed_by}, {profile.device}",
        ratio,
        *latency.speedup_with_interval,
        latency.speedup / ratio,
    ]
    if roof is None:
        return [*row, None, None, None, None]
    return [*row, roof.traffic.total / 1e6, roof.intensity, roof.bound, 100 * roof.share]
