"""The ledger of measured claims: a verdict and a reason for each figure of Ganesh et al. 2021, Table 1.

Each figure is compared with the paper's own numbers (recomputed) and with the measurement. The verdict on a speedup is
that of the runtime under which it was published. Most figures were published under PyTorch or under a runtime that is
not named, so `PUBLISHED_UNDER` is PyTorch's eager mode in float32; every other runtime has a verdict of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict

from harness.records.schema import Profile, Record
from leaderboard.published_tables import reading as published
from leaderboard.published_tables.reading import average_drop
from leaderboard.survey.artifacts import READINGS, Reading, recomputed
from leaderboard.survey.reproduction import RowRecords, Taken, rows_of
from leaderboard.tables.model import Column, Table

Verdict = Literal["reproduced", "above", "below", "no verdict", "not comparable"]
Figure = Literal["size with embeddings", "size without embeddings", "CPU speedup", "GPU speedup", "drop"]

SIZE_TOLERANCE = 0.3
"""Points by which a size may differ, because it is printed with one decimal and computed from rounded figures."""
SPEED_TOLERANCE = 0.05
"""Share by which a speedup may differ: two runs of one suite agree within it."""

PUBLISHED_UNDER = ("eager", "float32")
OTHER_FRAMEWORKS: Mapping[int, str] = MappingProxyType({18: "TensorFlow"})
"""Frameworks, by row, under which a speedup was published but nothing is measured. Eager stands in for them."""

SPEED_REASONS: Mapping[int, str] = MappingProxyType(
    {
        8: "timed by the survey, on a machine that it does not name",
        9: "timed on a V100 and on a processor that is not named",
        10: "timed by the survey; a recurrent net reads token by token, and the length of the inputs is not given",
        14: "timed by the survey; the paper timed a compiled graph on a phone",
        15: "timed by the survey, which also timed a K80",
        16: "timed by the survey",
        17: "timed on V100-class hardware; the paper's abstract says 1.45",
        18: "passages of about 300 tokens were cached",
        19: "timed by the survey; no exit distribution is published, and here every input exits after 9 of 12 layers",
        20: "timed by the survey; the retention here is another task's",
        21: "timed by the survey; all 12 layers are computed, so no arithmetic is saved",
        23: "timed by the survey, which also timed a K40",
        24: "the survey repeats DistilBERT's speedup; the dictionaries are unpacked before a pass",
        25: "the survey repeats its timing of the float32 model",
    }
)
"""Reasons why a row's published CPU speedup may differ from the measured one, by row."""


class OtherRuntime(BaseModel):
    """A speedup over the baseline under another runtime (`on`) than the published one, with its own verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    on: str
    measured: float | None
    verdict: Verdict

    def __str__(self) -> str:
        """Write it as `openvino, cpu: 2.31 (above)`."""
        return (
            f"{self.on}: {self.verdict if self.measured is None else f'{self.measured:.2f} ({self.verdict})'}"
        )


class MeasuredClaim(BaseModel):
    """One figure of one row. A measured speedup has its 95 % interval (`low`, `high`) and its conditions (`on`).

    `others` are the speedups under the other runtimes. `over_eager` is the best speedup over the eager float32
    baseline.
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
    others: tuple[OtherRuntime, ...] = ()
    over_eager: float | None = None
    verdict: Verdict
    reason: str = ""

    @property
    def reached(self) -> bool:
        """True if the measured figure is at least the published one."""
        return self.measured is not None and self.measured >= self.published

    @property
    def reached_elsewhere(self) -> bool:
        """True if the figure is reached under the published runtime or another one."""
        return self.reached or any(
            other.measured is not None and other.measured >= self.published for other in self.others
        )

    @property
    def reached_over_eager(self) -> bool:
        """True if the figure is reached over the eager float32 baseline, which includes the runtime's own gain."""
        best = max((value for value in (self.measured, self.over_eager) if value is not None), default=None)
        return best is not None and best >= self.published


class SpeedTally(BaseModel):
    """Counts of the rows with a published CPU speedup above 1: all, measured, and reached.

    A row reaches it over the baseline under the published runtime (`reached`), over the baseline under any runtime, the
    same for both (`reached_elsewhere`), or over the eager float32 baseline (`reached_over_eager`).
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    measured: int
    reached: int
    reached_elsewhere: int
    reached_over_eager: int

    @property
    def line(self) -> str:
        """The tally in words."""
        return (
            f"of {self.rows} rows with a published CPU speedup above 1, {self.measured} are measured; {self.reached} "
            f"reach it in eager float32, {self.reached_elsewhere} under some runtime over the baseline under the same, "
            f"{self.reached_over_eager} under some runtime over the eager float32 baseline"
        )


def measured_claims(
    records: Iterable[Record],
    tables: Path | None = None,
    *,
    model: str = "bert-base",
    readings: Sequence[Reading] = READINGS,
) -> list[MeasuredClaim]:
    """List every published figure of the survey's rows, row by row, with its verdict."""
    base = published.survey_lines(tables)[1]
    claims = []
    for row in rows_of(records, tables, model=model, readings=readings):
        claims += _sizes(row)
        claims += _speeds(row)
        claims.append(_drop(row, base))
    if model == "bert-base":
        return claims
    other = {"verdict": "not comparable", "reason": f"built from {model}, not from the survey's base model"}
    return [claim.model_copy(update=other) for claim in claims]


def tally_speeds(claims: Iterable[MeasuredClaim]) -> SpeedTally:
    """Count how many published CPU speedups above 1 are reached."""
    above = [claim for claim in claims if claim.figure == "CPU speedup" and claim.published > 1]
    return SpeedTally(
        rows=len(above),
        measured=sum(claim.measured is not None for claim in above),
        reached=sum(claim.reached for claim in above),
        reached_elsewhere=sum(claim.reached_elsewhere for claim in above),
        reached_over_eager=sum(claim.reached_over_eager for claim in above),
    )


def verdict_of(published: float, measured: float, within: float) -> Verdict:
    """Return `reproduced` if the figures differ by at most `within`, else the side on which the measured one lies."""
    # A difference equal to the tolerance must not depend on the last bit of a sum.
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
                reason = "size convention: the survey does not count masks, scales or tables"
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
    """Judge a speedup under the published runtime, and under every other runtime on the same workload."""
    profiles = _comparable_profiles(row, device)
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
        others=tuple(
            OtherRuntime(on=str(Taken.of(record)), measured=speedup, verdict=verdict)
            for record, profile in profiles
            if not _as_published(record)
            for speedup, verdict in [_judged(printed, profile)]
        ),
        over_eager=max(over, default=None),
        verdict="not comparable",
        reason=_why_not_measured(row),
    )
    found = next(((record, profile) for record, profile in profiles if _as_published(record)), None)
    if found is None:
        if profiles:
            return claim.model_copy(update={"reason": "other runtime: no profile in eager float32"})
        if device == "cpu":
            return claim
        published_on = f"; the paper's device: {row.line.device}" if row.line.device else ""
        return claim.model_copy(update={"reason": f"other hardware: no profile on CUDA{published_on}"})
    record, profile = found
    speedup, verdict = _judged(printed, profile)
    latency = profile.latency
    low, high = (None, None) if latency is None else latency.speedup_with_interval[1:]
    if speedup is None:
        reason = "the interval of the speedup is too wide" if verdict == "no verdict" else "not timed"
    elif verdict == "reproduced" and speedup >= printed:
        reason = ""
    else:
        reason = _speed_reason(row, record, printed, speedup)
    return claim.model_copy(
        update={
            "measured": speedup,
            "low": low,
            "high": high,
            "on": f"{Taken.of(record)} at {Taken.of(record).workload}",
            "verdict": verdict,
            "reason": reason,
        }
    )


def _comparable_profiles(row: RowRecords, device: str) -> list[tuple[Record, Profile]]:
    """Choose the row's profiles on one workload: with cached passages if it has them, else the usual one.

    Another workload is chosen only if the usual one was not profiled.
    """
    own = [
        (record, record.profile)
        for record in row.measured
        if record.profile is not None and Taken.of(record).device.startswith(device)
    ]
    if not own:
        return []
    workload = min(
        (Taken.of(record) for record, _ in own),
        key=lambda taken: (taken.workload.cached is None, not taken.usual, taken.order),
    ).workload
    return [(record, profile) for record, profile in own if Taken.of(record).workload == workload]


def _as_published(record: Record) -> bool:
    taken = Taken.of(record)
    return (taken.runtime, taken.precision) == PUBLISHED_UNDER


def _judged(printed: float, profile: Profile) -> tuple[float | None, Verdict]:
    """Return a profile's speedup and the verdict on it."""
    if profile.latency is None:
        return None, "not comparable"
    speedup = profile.latency.speedup
    if speedup is None:
        return None, "no verdict"
    return speedup, verdict_of(printed, speedup, SPEED_TOLERANCE * printed)


def _speed_reason(row: RowRecords, record: Record, printed: float, speedup: float) -> str:
    """Explain why a speedup differs: the ratio of FLOPs, its execution, and the known reasons of the row."""
    parts = []
    ratio = None if record.profile is None else record.profile.flops_ratio
    if ratio is not None and speedup < printed:
        if ratio < printed:
            parts.append(f"published above the ratio of FLOPs, {ratio:.2f}")
        else:
            parts.append(
                f"the ratio of FLOPs is {ratio:.2f}, and {100 * speedup / ratio:.0f} % of it is realised"
            )
    if row.line.row in OTHER_FRAMEWORKS:
        parts.append(f"published under {OTHER_FRAMEWORKS[row.line.row]}")
    if row.line.row in SPEED_REASONS:
        parts.append(SPEED_REASONS[row.line.row])
    elif printed == 1:
        parts.append(
            "the survey assumes 1 for methods that keep the arithmetic; this artifact's latency differs"
        )
    else:
        device = row.line.device or "an unnamed machine"
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
        reason="nothing is trained here, so accuracy is not measured"
        + ("; a BERT-LARGE teacher" if row.line.teacher_large else ""),
    )


def _why_not_measured(row: RowRecords) -> str:
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
    Column("others", "Under other runtimes"),
    Column("over_eager", "Best over eager float32", digits=2),
    Column("verdict", "Verdict"),
    Column("reason", "Reason"),
)


def claims_table(claims: Sequence[MeasuredClaim]) -> Table:
    """Make the table of the ledger, with the tally of speedups below."""
    rows = [
        [
            "; ".join(map(str, claim.others)) if column.key == "others" else getattr(claim, column.key)
            for column in COLUMNS
        ]
        for claim in claims
    ]
    return Table.of(
        name="claims",
        title="Claims of Ganesh et al. 2021, Table 1, measured",
        columns=COLUMNS,
        rows=rows,
        notes=[
            tally_speeds(claims).line,
            f"reproduced: a size within {SIZE_TOLERANCE:g} points, a speedup within {100 * SPEED_TOLERANCE:.0f} %; "
            "above, below: the measured figure is above or below the published one",
            "no verdict: the interval of the measured speedup is too wide",
            "speedups: in eager float32, over the baseline under the same runtime; other runtimes and precisions stand "
            "next to it, each over the float32 baseline under the same runtime, with a verdict of its own",
            "recomputed: from the paper's own figures; a drop, in points, from the row's own scores",
        ],
    )
