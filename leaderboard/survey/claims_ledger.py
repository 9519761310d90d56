"""The ledger of measured claims: each figure of Ganesh et al. 2021, Table 1, is compared with what its paper's own
numbers give and with what was measured here, and gets a verdict and a reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict

from harness.records.schema import Record
from leaderboard.published_tables import reading as published
from leaderboard.published_tables.reading import average_drop
from leaderboard.survey.artifacts import READINGS, Reading, recomputed
from leaderboard.survey.reproduction import RowRecords, Taken, rows_of
from leaderboard.tables.model import Column, Table

Verdict = Literal["reproduced", "above", "below", "not comparable"]
Figure = Literal["size with embeddings", "size without embeddings", "CPU speedup", "GPU speedup", "drop"]

SIZE_TOLERANCE = 0.3
"""Points by which a size may differ: printed with one decimal, of figures that were rounded."""
SPEED_TOLERANCE = 0.05
"""The share by which a speedup may differ: what two runs of one suite agree within."""

SPEED_REASONS: Mapping[int, str] = MappingProxyType(
    {
        8: "the survey's own timing, on a machine that it does not name",
        9: "V100 and a processor that is not named",
        10: "the survey's own timing; a recurrent net goes token by token, and how long the rows were is not said",
        14: "the survey's own timing; the paper's own is of a phone's compiled graph",
        15: "the survey's own timing beside a K80's",
        16: "the survey's own timing",
        17: "V100-class figures; the paper's abstract says 1.45",
        18: "passages of about 300 tokens were cached",
        19: "the survey's own timing; no exit distribution is published, here each row leaves after 9 of 12 layers",
        20: "the survey's own timing; the retention is another task's",
        21: "the survey's own timing; all 12 layers are computed, so no arithmetic is saved",
        23: "the survey's own timing beside a K40's",
        24: "DistilBERT's speedup was taken over; the dictionaries are unpacked before a pass, not computed with",
        25: "the survey's own timing of the float32 model was taken over",
    }
)
"""Why a row's published CPU speedup need not come out here, by row."""


class MeasuredClaim(BaseModel):
    """One figure of one row. `measured` has the interval `low` to `high` where it is a speedup, and `on` says where it
    was taken; `over_eager` is the best over the eager float32 baseline.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    row: int
    method: str
    figure: Figure
    published: float
    recomputed: float | None = None
    measured: float | None = None
    low: float | None = None
    high: float | None = None
    on: str = ""
    over_eager: float | None = None
    verdict: Verdict
    reason: str = ""

    @property
    def reached(self) -> bool:
        """Whether the measured figure is at or above the published one."""
        return self.measured is not None and self.measured >= self.published

    @property
    def reached_over_eager(self) -> bool:
        """The same over eager float32, what a better runtime brings included."""
        best = max((value for value in (self.measured, self.over_eager) if value is not None), default=None)
        return best is not None and best >= self.published


class SpeedTally(BaseModel):
    """Of the rows with a published CPU speedup above 1: how many there are, were measured, and reach it under some
    runtime: over the baseline under the same runtime, and over eager float32.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    measured: int
    reached: int
    reached_over_eager: int

    @property
    def line(self) -> str:
        """The tally in words."""
        return (
            f"of {self.rows} rows with a published CPU speedup above 1, {self.measured} are measured: {self.reached} "
            "at or above it over the baseline under the same runtime, "
            f"{self.reached_over_eager} over eager in float32"
        )


def measured_claims(
    records: Iterable[Record],
    tables: Path | None = None,
    *,
    model: str = "bert-base",
    readings: Sequence[Reading] = READINGS,
) -> list[MeasuredClaim]:
    """Every published figure of the rows that are read, row by row."""
    base = published.survey_lines(tables)[1]
    claims = []
    for row in rows_of(records, tables, model=model, readings=readings):
        claims += _sizes(row)
        claims += _speeds(row)
        claims.append(_drop(row, base))
    if model == "bert-base":
        return claims
    other = {"verdict": "not comparable", "reason": f"built from {model}, which is not the survey's base"}
    return [claim.model_copy(update=other) for claim in claims]


def tally_speeds(claims: Iterable[MeasuredClaim]) -> SpeedTally:
    """How many of the published CPU speedups above 1 were reached."""
    above = [claim for claim in claims if claim.figure == "CPU speedup" and claim.published > 1]
    return SpeedTally(
        rows=len(above),
        measured=sum(claim.measured is not None for claim in above),
        reached=sum(claim.reached for claim in above),
        reached_over_eager=sum(claim.reached_over_eager for claim in above),
    )


def verdict_of(published: float, measured: float, within: float) -> Verdict:
    """`reproduced` where they differ by no more than `within`, else on which side the measured figure lies."""
    # What differs by the tolerance itself must not hang on the last bit of a sum.
    if abs(measured - published) <= within + 1e-9:
        return "reproduced"
    return "above" if measured > published else "below"


def _sizes(row: RowRecords) -> list[MeasuredClaim]:
    facts = next((record.artifact for record in row.measured if record.artifact is not None), None)
    ours = (None, None) if facts is None else row.reading.sizes(facts)
    again = recomputed(row.line)
    figures: tuple[tuple[Figure, str, float, float | None, float | None], ...] = (
        ("size with embeddings", "with", float(row.line.size_with_emb_pct), again[0], ours[0]),
        ("size without embeddings", "without", float(row.line.size_without_emb_pct), again[1], ours[1]),
    )
    claims = []
    for figure, column, printed, recomputed_pct, mine in figures:
        if mine is None:
            verdict: Verdict = "not comparable"
            reason = _why_not_measured(row)
        else:
            verdict = verdict_of(printed, mine, SIZE_TOLERANCE)
            comparable = column in row.reading.compare
            reason = row.reading.remark if verdict != "reproduced" or not comparable else ""
            if verdict != "reproduced" and not reason:
                reason = "size convention: the survey charges no masks, scales or tables"
        claims.append(
            MeasuredClaim(
                row=row.line.row,
                method=row.method,
                figure=figure,
                published=printed,
                recomputed=recomputed_pct,
                measured=mine,
                verdict=verdict,
                reason=reason,
            )
        )
    return claims


def _speeds(row: RowRecords) -> list[MeasuredClaim]:
    figures: tuple[tuple[Figure, str, Decimal | None], ...] = (
        ("CPU speedup", "cpu", row.line.speedup_cpu),
        ("GPU speedup", "cuda", row.line.speedup_gpu),
    )
    return [
        _speed(row, figure, device, float(value)) for figure, device, value in figures if value is not None
    ]


def _speed(row: RowRecords, figure: Figure, device: str, printed: float) -> MeasuredClaim:
    own = [record for record in row.measured if Taken.of(record).device.startswith(device)]
    # Of other workloads only where there is none of the usual.
    own = [record for record in own if Taken.of(record).usual] or own
    profiles = [(record, record.profile) for record in own if record.profile is not None]
    timed = [
        (profile.latency.speedup, profile.latency, record)
        for record, profile in profiles
        if profile.latency is not None and profile.latency.speedup is not None
    ]
    over = [
        profile.over_eager.speedup
        for _, profile in profiles
        if profile.over_eager is not None and profile.over_eager.speedup is not None
    ]
    claim = MeasuredClaim(
        row=row.line.row,
        method=row.method,
        figure=figure,
        published=printed,
        over_eager=max(over, default=None),
        verdict="not comparable",
        reason=_why_not_measured(row),
    )
    if not timed:
        if device == "cpu" or own:
            return claim
        published_on = f"; the paper's device: {row.line.device}" if row.line.device else ""
        return claim.model_copy(update={"reason": f"other hardware: no profile on CUDA{published_on}"})
    speedup, latency, best = max(timed, key=lambda each: each[0])
    _, low, high = latency.speedup_with_interval
    verdict = verdict_of(printed, speedup, SPEED_TOLERANCE * printed)
    as_published = verdict == "reproduced" and speedup >= printed
    found = {
        "measured": speedup,
        "low": low,
        "high": high,
        "on": f"{Taken.of(best)} at {Taken.of(best).workload}",
        "verdict": verdict,
        "reason": "" if as_published else _speed_reason(row, best, printed, speedup),
    }
    return claim.model_copy(update=found)


def _speed_reason(row: RowRecords, record: Record, printed: float, speedup: float) -> str:
    """Why a speedup differs: what the arithmetic allows, how it was executed, and what is known of the row."""
    parts = []
    ratio = None if record.profile is None else record.profile.flops_ratio
    if ratio is not None and speedup < printed:
        if ratio < printed:
            parts.append(f"more than the ratio of FLOPs, {ratio:.2f}")
        else:
            parts.append(
                f"the ratio of FLOPs is {ratio:.2f}, of which {100 * speedup / ratio:.0f} % is realised"
            )
    if row.line.row in SPEED_REASONS:
        parts.append(SPEED_REASONS[row.line.row])
    elif printed == 1:
        parts.append(
            "the survey took 1 for methods that leave the arithmetic as it is; this artifact's differs in time"
        )
    else:
        device = row.line.device or "a machine that is not named"
        parts.append(f"other hardware: published on {device}")
    return "; ".join(parts)


def _drop(row: RowRecords, base: published.SurveyRow) -> MeasuredClaim:
    again = average_drop(row.line.scores, base.scores)
    return MeasuredClaim(
        row=row.line.row,
        method=row.method,
        figure="drop",
        published=float(row.line.avg_drop),
        recomputed=None if again is None else float(again),
        verdict="not comparable",
        reason="accuracy as published: nothing is trained here"
        + ("; a BERT-LARGE teacher" if row.line.teacher_large else ""),
    )


def _why_not_measured(row: RowRecords) -> str:
    if row.measured:
        return "no verdict: the interval of the speedup stayed too wide"
    if row.failed:
        record = row.failed[0]
        return f"{record.status} under {Taken.of(record)}: {' '.join(record.reason.split())}"
    return "not measured yet"


COLUMNS = (
    Column("row", "Row"),
    Column("method", "Method"),
    Column("figure", "Figure"),
    Column("published", "Published", digits=2),
    Column("recomputed", "Recomputed", digits=2),
    Column("measured", "Measured", digits=2),
    Column("low", "95 % from", digits=2),
    Column("high", "to", digits=2),
    Column("on", "On"),
    Column("over_eager", "Best over eager float32", digits=2),
    Column("verdict", "Verdict"),
    Column("reason", "Reason"),
)


def claims_table(claims: Sequence[MeasuredClaim]) -> Table:
    """The ledger as a table, with the tally of speedups below."""
    rows = [[getattr(claim, column.key) for column in COLUMNS] for claim in claims]
    return Table.of(
        name="claims",
        title="Claims of Ganesh et al. 2021, Table 1, measured",
        columns=COLUMNS,
        rows=rows,
        notes=[
            tally_speeds(claims).line,
            f"reproduced: a size within {SIZE_TOLERANCE:g} points, a speedup within {100 * SPEED_TOLERANCE:.0f} %; "
            "above and below: the measured figure is",
            "speedups are the best under any runtime and precision, over the float32 baseline under the same runtime",
            "recomputed: from the paper's own figures; drops: points, from the row's own scores",
        ],
    )
