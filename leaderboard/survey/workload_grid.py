"""Speedups by workload: a line for each row of the survey and each runtime, a column for each workload."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.common.errors import Code, SkylineError
from harness.records.schema import Record, Workload
from leaderboard.survey.artifacts import READINGS, Reading
from leaderboard.survey.reproduction import NO_VERDICT, USUAL, Taken, rows_of, speedup_cells
from leaderboard.tables.model import Column, Table, Value


def grid_table(
    records: Iterable[Record],
    tables: Path | None = None,
    *,
    model: str = "bert-base",
    readings: Sequence[Reading] = READINGS,
) -> Table:
    """Make the table of each row's speedup over the float32 baseline under the same runtime, by workload.

    Rows that were profiled under only one workload are left out. Raises SkylineError (no-data) if no row is left.
    """
    lines: dict[tuple[int, str, str], dict[Workload, Record]] = {}
    for row in rows_of(records, tables, model=model, readings=readings):
        for record in (*row.measured, *row.failed):
            taken = Taken.of(record)
            if taken.workload.cached is None:
                lines.setdefault((row.line.row, row.method, str(taken)), {})[taken.workload] = record
    lines = {key: found for key, found in lines.items() if len(found) > 1}
    if not lines:
        raise SkylineError(
            "no row of the survey was profiled under several workloads yet; "
            "run `skyline reproduce ganesh2021 --grid --out profiles`",
            Code.NO_DATA,
        )
    workloads = sorted({workload for found in lines.values() for workload in found}, key=_order)
    columns = [Column(key=str(workload), heading=str(workload), digits=2) for workload in workloads]
    return Table.of(
        name="grid",
        title=f"Speedups by workload, (batch, length), of the survey's rows built at {model}'s size",
        columns=[
            Column("row", "Row"),
            Column("method", "Method"),
            Column("on", "On"),
            *columns,
        ],
        rows=[
            [*key, *(_cell(found.get(workload)) for workload in workloads)] for key, found in lines.items()
        ],
        notes=[
            "speedup over the float32 baseline under the same runtime and workload, measured in pairs",
            f"–: not profiled or not timed; {NO_VERDICT}: the interval was too wide",
        ],
    )


def _order(workload: Workload) -> tuple[bool, str, int, int]:
    return (workload != USUAL, workload.task or "", workload.batch, workload.length)


def _cell(record: Record | None) -> Value:
    if record is None:
        return None
    if record.profile is None:
        return record.status
    return speedup_cells(record.profile.latency)[0]
