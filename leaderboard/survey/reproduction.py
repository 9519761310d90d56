"""Reproduction of Ganesh et al. 2021, Table 1: every row, built at BERT-base size and compared with the print."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from harness.common.errors import Code, SkylineError, unknown_name
from harness.recipes.recipe import BASELINE, Recipe
from harness.records.schema import Latency, Record, Workload, executed_by
from leaderboard.boards.record_selection import newest
from leaderboard.published_tables import reading as published
from leaderboard.published_tables.reading import SurveyRow
from leaderboard.survey.artifacts import READINGS, Reading, recomputed
from leaderboard.tables.model import Column, Table, Value

COLUMNS = (
    Column("row", "Row"),
    Column("method", "Method"),
    Column("on", "On"),
    Column("workload", "(batch, length)"),
    Column("survey_with", "Survey: size with embeddings", "%"),
    Column("recomputed_with", "Recomputed"),
    Column("ours_with", "Ours"),
    Column("survey_without", "Survey: without", "%"),
    Column("recomputed_without", "Recomputed"),
    Column("ours_without", "Ours"),
    Column("disk_pct", "Bytes on disk", "%"),
    Column("flops_ratio", "FLOPs ratio", digits=2),
    Column("survey_cpu", "Survey: CPU speedup", digits=2),
    Column("survey_gpu", "Survey: GPU speedup", digits=2),
    Column("speedup", "Speedup", digits=2),
    Column("low", "95 % from", digits=2),
    Column("high", "to", digits=2),
    Column("over_eager", "Over eager float32", digits=2),
    Column("over_eager_low", "95 % from", digits=2),
    Column("over_eager_high", "to", digits=2),
    Column("survey_drop", "Survey: drop", "points", digits=2),
    Column("status", "Status"),
)

NO_VERDICT = "no verdict"
"""The cell of a speedup whose interval was too wide. It is neither missing nor simulated."""

USUAL = Workload(batch=1, length=128)
"""The survey's workload: one text as long as MNLI's."""


@dataclass(frozen=True)
class RowRecords:
    """A row of the survey, its reading, and the profiles of its artifact: with figures (`measured`) and without."""

    line: SurveyRow
    reading: Reading
    measured: tuple[Record, ...]
    failed: tuple[Record, ...]

    @property
    def method(self) -> str:
        """The method's name and citation in the survey."""
        return f"{self.line.paper_method} ({self.line.provenance})"


def slug(line: SurveyRow) -> str:
    """Make a row's name for the command line, such as `q-bert` or `gobo-on-distilbert`."""
    return re.sub(r"[^a-z0-9]+", "-", line.paper_method.lower()).strip("-")


def chosen_rows(wanted: Sequence[str], tables: Path | None = None) -> tuple[Reading, ...]:
    """Find the readings of rows by number (2 to 26, as in the table's file) or name; all rows if none is named.

    Raises SkylineError for an unknown number (out-of-range) or name (unknown-name, with the nearest name).
    """
    lines = published.survey_lines(tables)
    names = {slug(lines[reading.row]): reading for reading in READINGS}
    numbers = {str(reading.row): reading for reading in READINGS}
    found = {}
    for text in wanted:
        key = text.strip().lower()
        reading = numbers.get(key) or names.get(key)
        if reading is None and key.lstrip("+-").isdigit():
            rows = sorted(lines)
            raise SkylineError(
                f"row {text} cannot be built; use {rows[1]} to {rows[-1]} (row 1 is BERT-base), or a name",
                Code.OUT_OF_RANGE,
            )
        if reading is None:
            raise unknown_name("row of the survey", text, names)
        found[reading.row] = reading
    return tuple(found.values()) if wanted else READINGS


def with_published_speedup(readings: Sequence[Reading], tables: Path | None = None) -> tuple[Reading, ...]:
    """Keep the readings of rows whose published CPU speedup is above 1."""
    lines = published.survey_lines(tables)
    return tuple(reading for reading in readings if (lines[reading.row].speedup_cpu or 0) > 1)


def recipe_of(reading: Reading) -> str:
    """Write a reading's recipe as records do."""
    return str(Recipe.parse(reading.recipe))


def rows_of(
    records: Iterable[Record],
    tables: Path | None = None,
    *,
    model: str = "bert-base",
    readings: Sequence[Reading] = READINGS,
) -> list[RowRecords]:
    """Collect the rows of `readings` in the table's order, each with its recipe's untrained profiles on `model`."""
    found, _ = newest(records)
    by_recipe: dict[str, list[Record]] = {}
    for record in found:
        if record.kind == "profile" and record.model == model and record.task is None:
            by_recipe.setdefault(record.recipe, []).append(record)
    lines = published.survey_lines(tables)
    rows = []
    for reading in sorted(readings, key=lambda reading: reading.row):
        # A suite with another time cap leaves another record of the same condition; the newest is used.
        latest = {
            (Taken.of(record).order, record.profile is None): record
            for record in sorted(by_recipe.get(recipe_of(reading), []), key=lambda r: r.provenance.started)
        }
        own = sorted(latest.values(), key=lambda record: Taken.of(record).order)
        measured = tuple(record for record in own if record.profile is not None)
        failed = tuple(record for record in own if record.profile is None)
        rows.append(RowRecords(lines[reading.row], reading, measured, failed))
    return rows


@dataclass(frozen=True)
class Taken:
    """The conditions under which a record's artifact was profiled, or should have been."""

    device: str
    runtime: str
    precision: str
    workload: Workload

    @classmethod
    def of(cls, record: Record) -> Taken:
        """Read them from the record's profile, or from its cell if it has no profile."""
        said = record.cell if record.profile is None else record.profile.model_dump(mode="json")
        return cls(
            said.get("device", "cpu"),
            said.get("runtime", "eager"),
            said.get("precision", "float32"),
            Workload.model_validate(said.get("workload", {})),
        )

    def __str__(self) -> str:
        """Write runtime, precision and device, such as `openvino in int8, cpu`."""
        return f"{executed_by(self.runtime, self.precision)}, {self.device}"

    @property
    def order(self) -> tuple[object, ...]:
        """The key that sorts the lines of a row; it is equal only for equal conditions."""
        w = self.workload
        shape = (w.cached or 0, w.batch, w.length, w.task or "")
        return (self.device, self.runtime != "eager", self.runtime, self.precision, *shape)

    @property
    def usual(self) -> bool:
        """True if the workload is the survey's, or has cached passages; only such lines are compared."""
        return self.workload == USUAL or self.workload.cached is not None


def reproduction_table(
    records: Iterable[Record],
    tables: Path | None = None,
    *,
    model: str = "bert-base",
    readings: Sequence[Reading] = READINGS,
) -> Table:
    """Make a line for each profile of each row. A row without profiles has one line that says so."""
    found = list(records)
    base = next(
        (
            record.artifact
            for record in found
            if record.recipe == BASELINE and record.model == model and record.task is None and record.artifact
        ),
        None,
    )
    lines: list[list[Value]] = []
    for row in rows_of(found, tables, model=model, readings=readings):
        for record in row.measured:
            disk = record.profile.baseline.disk_bytes if record.profile and record.profile.baseline else None
            disk = base.disk_bytes if base is not None else disk
            lines.append(_line(row, record, disk))
        lines += [_line(row, record, None) for record in row.failed]
        if not row.measured and not row.failed:
            lines.append(_line(row, None, None))
    return Table.of(
        name="reproduction",
        title=f"Ganesh et al. 2021, Table 1, and its rows built at {model}'s size, untrained",
        columns=COLUMNS,
        rows=lines,
        notes=[
            "row: as in the table's file, where BERT-base is row 1",
            "survey: as published; nothing is trained here, so drops are not measured; the survey's drops mix GLUE's "
            "test and dev splits",
            "recomputed: from the paper's own figures, by the survey's convention; ours: from the artifact, in the "
            "same way; bytes on disk: all bytes of the artifact over those of the float32 baseline",
            f"speedup: over the float32 baseline under the same runtime, measured in pairs; {NO_VERDICT}: its interval "
            "was too wide; over eager float32: – if the runtime is eager",
        ],
    )


def _line(row: RowRecords, record: Record | None, base_bytes: int | None) -> list[Value]:
    line, reading = row.line, row.reading
    again = recomputed(line)
    ours: tuple[float | None, float | None] = (None, None)
    disk = ratio = None
    profile = None if record is None else record.profile
    if record is not None and record.artifact is not None:
        ours = reading.sizes(record.artifact)
        disk = 100 * record.artifact.disk_bytes / base_bytes if base_bytes else None
    if profile is not None:
        ratio = profile.flops_ratio
    return [
        line.row,
        row.method,
        *(("–", "–") if record is None else (str(Taken.of(record)), str(Taken.of(record).workload))),
        float(line.size_with_emb_pct),
        again[0],
        ours[0],
        float(line.size_without_emb_pct),
        again[1],
        ours[1],
        disk,
        ratio,
        _number(line.speedup_cpu),
        _number(line.speedup_gpu),
        *speedup_cells(None if profile is None else profile.latency),
        *speedup_cells(None if profile is None else profile.over_eager),
        float(line.avg_drop),
        _status(record),
    ]


def _status(record: Record | None) -> str:
    if record is None:
        return "not measured yet"
    reason = " ".join(record.reason.split())
    return record.status if not reason else f"{record.status}: {reason}"


def speedup_cells(latency: Latency | None) -> tuple[Value, Value, Value]:
    """Return the cells of a speedup and its interval: `NO_VERDICT` if it is too wide, None if nothing was timed."""
    if latency is None:
        return None, None, None
    speedup, low, high = latency.speedup_with_interval
    return (NO_VERDICT if speedup is None else speedup), low, high


def _number(value: object) -> float | None:
    return None if value is None else float(str(value))


REPEAT_COLUMNS = (
    Column("recipe", "Recipe"),
    Column("on", "On"),
    Column("workload", "(batch, length)"),
    Column("against", "Over"),
    Column("first", "First run", digits=3),
    Column("second", "Second run", digits=3),
    Column("difference_pct", "Difference", "%", digits=2),
)


def repeat_table(first: Iterable[Record], second: Iterable[Record]) -> Table:
    """Compare the speedups of two runs of the same cells, the largest difference first.

    Raises SkylineError if the runs share no speedup (no-data) or are from different machines (not-comparable).
    """
    ones, others = _speedups(first), _speedups(second)
    shared = [key for key in ones if key in others]
    if not shared:
        raise SkylineError(
            "the two folders share no profile with a speedup; name two runs of the same suite", Code.NO_DATA
        )
    machines = {run[key][0].provenance.hardware.id for run in (ones, others) for key in shared}
    if len(machines) > 1:
        raise SkylineError(
            f"the records are from different machines ({', '.join(sorted(machines))}); compare runs of one machine",
            Code.NOT_COMPARABLE,
        )
    rows: list[list[Value]] = []
    for key in shared:
        record, one = ones[key]
        other = others[key][1]
        difference = 100 * abs(other - one) / one
        taken = Taken.of(record)
        rows.append([record.recipe, str(taken), str(taken.workload), key[1], one, other, difference])
    rows.sort(key=lambda row: (-float(row[-1] or 0.0), str(row[0])))
    differences = [float(row[-1] or 0.0) for row in rows]
    alone = len(ones) + len(others) - 2 * len(shared)
    notes = [
        f"{len(rows)} speedups: the largest difference is {max(differences):.2f} %, "
        f"the median {median(differences):.2f} %",
        *([f"{alone} speedups are in only one of the folders"] if alone else []),
    ]
    return Table.of(
        name="repeat",
        title="Two runs of the same cells",
        columns=REPEAT_COLUMNS,
        rows=rows,
        notes=notes,
    )


def _speedups(records: Iterable[Record]) -> Mapping[tuple[str, str], tuple[Record, float]]:
    found: dict[tuple[str, str], tuple[Record, float]] = {}
    for record in newest(records)[0]:
        if record.profile is None or record.recipe == BASELINE:
            continue
        for name, latency in (
            ("the same runtime", record.profile.latency),
            ("eager float32", record.profile.over_eager),
        ):
            if latency is not None and latency.speedup is not None:
                found[record.key, name] = (record, latency.speedup)
    return found
