"""Ganesh et al. 2021, Table 1, measured again: every row is built at BERT-base size and compared with the print."""

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

USUAL = Workload(batch=1, length=128)
"""The survey's own workload: one text of the length of MNLI's."""


@dataclass(frozen=True)
class RowRecords:
    """A row of the survey, how it is read, and the profiles of its artifact: those that gave figures and those that
    did not.
    """

    line: SurveyRow
    reading: Reading
    measured: tuple[Record, ...]
    failed: tuple[Record, ...]

    @property
    def method(self) -> str:
        """What the survey calls it."""
        return f"{self.line.paper_method} ({self.line.provenance})"


def slug(line: SurveyRow) -> str:
    """A row's name for the command line: `q-bert`, `gobo-on-distilbert`."""
    return re.sub(r"[^a-z0-9]+", "-", line.paper_method.lower()).strip("-")


def chosen_rows(wanted: Sequence[str], tables: Path | None = None) -> tuple[Reading, ...]:
    """The readings of rows by number (2 to 26, as in the table's file) or name; all where none is named. Raises
    SkylineError, naming the nearest, for a row that is not there.
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
                f"the table has no row {text} to build: use {rows[1]} to {rows[-1]} (row 1 is BERT-base), or a name",
                Code.OUT_OF_RANGE,
            )
        if reading is None:
            raise unknown_name("row of the survey", text, names)
        found[reading.row] = reading
    return tuple(found.values()) if wanted else READINGS


def with_published_speedup(readings: Sequence[Reading], tables: Path | None = None) -> tuple[Reading, ...]:
    """The readings of rows whose published CPU speedup is above 1."""
    lines = published.survey_lines(tables)
    return tuple(reading for reading in readings if (lines[reading.row].speedup_cpu or 0) > 1)


def recipe_of(reading: Reading) -> str:
    """A reading's recipe as records write it."""
    return str(Recipe.parse(reading.recipe))


def rows_of(
    records: Iterable[Record],
    tables: Path | None = None,
    *,
    model: str = "bert-base",
    readings: Sequence[Reading] = READINGS,
) -> list[RowRecords]:
    """The rows of the table that are read, in its order, each with the untrained profiles on `model` of its recipe."""
    found, _ = newest(records)
    by_recipe: dict[str, list[Record]] = {}
    for record in found:
        if record.kind == "profile" and record.model == model and record.task is None:
            by_recipe.setdefault(record.recipe, []).append(record)
    lines = published.survey_lines(tables)
    rows = []
    for reading in sorted(readings, key=lambda reading: reading.row):
        # A suite that times longer, or shorter, leaves another record of the same condition: the newest counts.
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
    """How a record's artifact was profiled, or was to be."""

    device: str
    runtime: str
    precision: str
    workload: Workload

    @classmethod
    def of(cls, record: Record) -> Taken:
        """From the record's profile, or from its cell where it has none."""
        said = record.cell if record.profile is None else record.profile.model_dump(mode="json")
        return cls(
            said.get("device", "cpu"),
            said.get("runtime", "eager"),
            said.get("precision", "float32"),
            Workload.model_validate(said.get("workload", {})),
        )

    def __str__(self) -> str:
        """Such as `openvino in int8, cpu`."""
        return f"{executed_by(self.runtime, self.precision)}, {self.device}"

    @property
    def order(self) -> tuple[object, ...]:
        """Sorts the lines of a row, and tells the conditions of two records apart."""
        w = self.workload
        shape = (w.cached or 0, w.batch, w.length, w.task or "")
        return (self.device, self.runtime != "eager", self.runtime, self.precision, *shape)

    @property
    def usual(self) -> bool:
        """Whether the workload is the survey's own, or a part of cached passages, by which rows compare."""
        return self.workload == USUAL or self.workload.cached is not None


def reproduction_table(
    records: Iterable[Record],
    tables: Path | None = None,
    *,
    model: str = "bert-base",
    readings: Sequence[Reading] = READINGS,
) -> Table:
    """A line for each profile of each row; a row without any has one line that says so."""
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
            "row: as in the table's file, which counts BERT-base as 1",
            "survey: as published, accuracy included: nothing here is trained, so none is measured; its drops mix "
            "GLUE's test and dev splits",
            "recomputed: from the paper's own figures, by the survey's convention; ours: of the artifact, in the same "
            "way; bytes on disk: of the artifact over the float32 baseline's, everything charged",
            "speedup: paired, over the float32 baseline under the same runtime, – where the interval stayed too wide; "
            "over eager float32: – where that is the same",
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
        *_speedup(None if profile is None else profile.latency),
        *_speedup(None if profile is None else profile.over_eager),
        float(line.avg_drop),
        _status(record),
    ]


def _status(record: Record | None) -> str:
    if record is None:
        return "not measured yet"
    reason = " ".join(record.reason.split())
    return record.status if not reason else f"{record.status}: {reason}"


def _speedup(latency: Latency | None) -> tuple[float | None, float | None, float | None]:
    return (None, None, None) if latency is None else latency.speedup_with_interval


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
    """The speedups of two runs of the same cells, the largest difference first; the largest and the median below.

    Raises SkylineError where they have no speedup in common, or are of different machines.
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
            f"the records are of different machines ({', '.join(sorted(machines))}); a repeat is of one",
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
        *([f"{alone} speedups are in one of the folders only"] if alone else []),
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
