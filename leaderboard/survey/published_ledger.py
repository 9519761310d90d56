"""The ledger of published figures: each figure that follows from others is recomputed and compared.

A figure adds up if the recomputed one, rounded or truncated to the printed digits, equals it. Sizes may differ by one
unit of the last digit, because they are computed from rounded figures. A mean that is printed with more digits than its
terms is compared within the rounding of the terms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from harness.models.parameter_counts import count
from leaderboard.published_tables import reading
from leaderboard.published_tables.reading import (
    PruningRow,
    PublishedRow,
    SizeRow,
    StudentCompressionRow,
    StudentRow,
    SurveyRow,
    average_drop,
)
from leaderboard.survey import sizes as survey_sizes
from leaderboard.survey.shapes import BERT_SHAPES, bert, masked_language_head
from leaderboard.survey.sizes import Recomputed
from leaderboard.tables.formatting import number

Verdict = Literal["adds up", "differs", "noted"]
SCORE_ROUNDING = Decimal("0.05")
"""The largest rounding error, in points, of a score that is printed with one decimal."""
DISTILBERT, GOBO_ON_DISTILBERT = 13, 24
SIZES_IN_TEXT = {
    DISTILBERT: Decimal("60.2"),
    GOBO_ON_DISTILBERT: Decimal("7.5"),
    14: Decimal(23),
    25: Decimal("5.25"),
}
"""Sizes with embeddings, in percent, that the survey's text gives for rows of its Table 1: DistilBERT and GOBO on it,
MobileBERT and its 8-bit form."""
ADDITIONAL_DROP = Decimal("0.9")
"""The drop, in points, that GOBO adds to DistilBERT according to the survey's text."""
TIMES_SMALLER = {"BiLSTM-BPE-100": Decimal(1471), "BiLSTM-BPE-25": Decimal(1993)}
"""How many times smaller than `GLUE_BASELINE` two quantized students are, according to the thesis."""
GLUE_BASELINE = "GLUE+GloVe"


class Entry(BaseModel):
    """One figure of a table, and the recomputed figure, in `unit`.

    `table` is the file's name, `source` the citation. `verdict` is "noted" for a problem that the figures cannot show.
    `sure` is False if the input of the recomputation was remembered and not read in the paper.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    table: str
    source: str = ""
    row: str
    check: str
    printed: float | None = None
    recomputed: float | None = None
    unit: str = ""
    verdict: Verdict
    reason: str = ""
    sure: bool = True

    @property
    def by(self) -> float | None:
        """Printed minus recomputed, in `unit`."""
        if self.printed is None or self.recomputed is None:
            return None
        return self.printed - self.recomputed

    @property
    def says(self) -> str:
        """The verdict in words, such as `differs by -0.33`."""
        if self.verdict != "differs" or self.by is None:
            return self.verdict
        return f"differs by {number(self.by, 2 if abs(self.by) < 10 else 0, sign=True)}"


class Tally(BaseModel):
    """The number of figures of one check of one table, and how many of them add up."""

    model_config = ConfigDict(frozen=True)

    table: str
    source: str
    check: str
    total: int
    adding_up: int


def read_ledger(profiles: Path | None = None) -> list[Entry]:
    """List all entries of the tables in `profiles`/published, table by table (see `reading.published_folder`).

    Raises SkylineError if a table cannot be read (not-found, unreadable, damaged).
    """
    folder = reading.published_folder(profiles)
    sources = reading.load_sources(folder)
    survey = reading.load(SurveyRow, folder)
    compressed = reading.load(StudentCompressionRow, folder)
    entries = [
        *_noted(sources, survey),
        *_survey_drops(survey),
        *_survey_sizes(survey),
        *_survey_text(survey),
        *_pruning_averages(reading.load(PruningRow, folder)),
        *_movva_sizes(reading.load(SizeRow, folder)),
        *_students(reading.load(StudentRow, folder), compressed),
        *_times_smaller(compressed),
    ]
    order = [kind.table for kind in reading.KINDS]
    cited = [entry.model_copy(update={"source": sources[entry.table].cite()}) for entry in entries]
    return sorted(cited, key=lambda entry: order.index(entry.table))


def tally(entries: Iterable[Entry]) -> list[Tally]:
    """Count, for each table and check, the recomputed figures and how many of them add up."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        if entry.verdict != "noted":
            groups.setdefault((entry.table, entry.check), []).append(entry)
    return [
        Tally(
            table=table,
            source=group[0].source,
            check=check,
            total=len(group),
            adding_up=sum(e.verdict == "adds up" for e in group),
        )
        for (table, check), group in groups.items()
    ]


def same_to_the_digit(printed: Decimal, exact: Decimal, slack: int = 0) -> bool:
    """Check whether `exact`, rounded or truncated to the digits of `printed`, equals it within `slack` last units."""
    exponent = printed.as_tuple().exponent
    unit = Decimal(1).scaleb(exponent) if isinstance(exponent, int) and exponent < 0 else Decimal(1)
    forms = (exact.quantize(unit, rounding) for rounding in (ROUND_HALF_UP, ROUND_DOWN))
    return any(abs(form - printed) <= slack * unit for form in forms)


def _entry(
    kind: type[PublishedRow],
    row: str,
    check: str,
    printed: Decimal,
    exact: Decimal,
    unit: str,
    reason: str = "",
    *,
    slack: int = 0,
    hidden: Decimal | None = None,
    sure: bool = True,
) -> Entry:
    """Make the entry of a figure. `hidden` is the uncertainty of `exact` if it comes from rounded figures."""
    if hidden is None:
        adds_up = same_to_the_digit(printed, exact, slack)
    else:
        adds_up = abs(printed - exact) <= hidden
        reason = reason or f"recomputed from rounded figures: known only to ±{hidden.normalize()} {unit}"
    return Entry(
        table=kind.table,
        row=row,
        check=check,
        printed=float(printed),
        recomputed=float(exact),
        unit=unit,
        verdict="adds up" if adds_up else "differs",
        reason=reason,
        sure=sure,
    )


def _label(row: SurveyRow) -> str:
    return f"{row.row} {row.paper_method} ({row.provenance})"


def _noted(sources: dict[str, reading.TableSource], survey: Sequence[SurveyRow]) -> list[Entry]:
    labels = {row.row: _label(row) for row in survey}
    entries = []
    for table, source in sources.items():
        for problem in source.problems:
            row = "whole table" if problem.row is None else labels.get(problem.row, f"row {problem.row}")
            entries.append(
                Entry(
                    table=table,
                    row=row,
                    check=problem.check,
                    verdict="noted",
                    reason=problem.reason,
                    sure=problem.sure,
                )
            )
    teachers = [_label(row) for row in survey if row.teacher_large]
    if teachers:
        reason = f"distilled from a BERT-LARGE teacher but compared with BERT-base: {'; '.join(teachers)}"
        entries.append(
            Entry(table=SurveyRow.table, row="whole table", check="teacher", verdict="noted", reason=reason)
        )
    return entries


def _survey_drops(rows: Sequence[SurveyRow]) -> list[Entry]:
    base = rows[0].scores
    entries = []
    for row in rows[1:]:
        exact = average_drop(row.scores, base)
        if exact is not None:
            reason = _drop_reason(row.avg_drop, exact, len(row.scores))
            label = _label(row)
            entries.append(_entry(SurveyRow, label, "average drop", row.avg_drop, exact, "points", reason))
    return entries


def _drop_reason(printed: Decimal, exact: Decimal, tasks: int) -> str:
    """Explain why a drop differs: whether the rounding of the printed scores can explain it."""
    if same_to_the_digit(printed, exact):
        return ""
    by, hidden = printed - exact, 2 * SCORE_ROUNDING
    if abs(by) <= hidden:
        return f"the rounding of the printed scores explains up to {hidden}, this difference included"
    return (
        f"the rounding of the printed scores explains up to {hidden}, but not this difference: "
        f"the drops of its {tasks} tasks would have to sum to {by * tasks:+.2f} more"
    )


def _survey_sizes(rows: Sequence[SurveyRow]) -> list[Entry]:
    share = Decimal(str(100 * survey_sizes.EMBEDDING_SHARE))
    reason = (
        f"only the word-embedding matrix, of {survey_sizes.BASE.total:,} parameters; the text says about 21 %; "
        "sizes do not count masks, indices, scales, centroids or exit ramps"
    )
    entries = [_entry(SurveyRow, _label(rows[0]), "embedding share", Decimal(21), share, "%", reason)]
    for row in rows[1:]:
        with_pct, without_pct = row.size_with_emb_pct, row.size_without_emb_pct
        if row.row in survey_sizes.ENCODER_ONLY:
            reason = "s + d (1 - s) from its own density d: the word embeddings stay"
            found = Recomputed(survey_sizes.with_embeddings(float(without_pct)), None, reason)
        elif row.row in survey_sizes.RECOMPUTED:
            found = survey_sizes.RECOMPUTED[row.row]
            implied = survey_sizes.implied_embedding_density(float(with_pct), float(without_pct))
            reason = found.how
            if abs(implied - 100) > 1:
                reason += f"; the two columns imply word embeddings of {implied:.1f} % of BERT-base's"
        else:
            continue
        for check, printed, percent in (
            ("size with embeddings", with_pct, found.with_embeddings),
            ("size without embeddings", without_pct, found.without_embeddings),
        ):
            if percent is not None:
                exact, label = Decimal(str(percent)), _label(row)
                entries.append(
                    _entry(SurveyRow, label, check, printed, exact, "%", reason, slack=1, sure=found.sure)
                )
    return entries


def _survey_text(rows: Sequence[SurveyRow]) -> list[Entry]:
    """Compare figures in the survey's text with its Table 1."""
    lines = {row.row: row for row in rows}
    entries = [
        _entry(
            SurveyRow,
            _label(lines[row]),
            "size in the text",
            size,
            lines[row].size_with_emb_pct,
            "%",
            f"Table 1 has {lines[row].size_with_emb_pct}",
        )
        for row, size in SIZES_IN_TEXT.items()
    ]
    before, after = lines[DISTILBERT], lines[GOBO_ON_DISTILBERT]
    shared = average_drop(before.scores, after.scores)
    if shared is not None:
        reason = (
            f"the text subtracts the drop over {len(before.scores)} tasks, {before.avg_drop}, from the drop over "
            f"{len(after.scores)}, {after.avg_drop}; recomputed on the tasks that both rows report"
        )
        check = "additional drop in the text"
        entries.append(_entry(SurveyRow, _label(after), check, ADDITIONAL_DROP, shared, "points", reason))
    return entries


def _times_smaller(rows: Sequence[StudentCompressionRow]) -> list[Entry]:
    """Recompute how many times smaller than a baseline the quantized models for sentence pairs are."""
    quantized = {row.model: row for row in rows if row.compression == "q"}
    base = next(row for row in rows if row.model == GLUE_BASELINE)
    return [
        _entry(
            StudentCompressionRow,
            f"{model}, q",
            f"times smaller than {GLUE_BASELINE}",
            printed,
            base.size_sentence_pair_mb / quantized[model].size_sentence_pair_mb,
            "times",
            f"the text divides the baseline's size for single sentences, {base.size_single_sentence_mb} MB, by the "
            f"student's for pairs; recomputed with {base.size_sentence_pair_mb} MB, the baseline's size for pairs",
        )
        for model, printed in TIMES_SMALLER.items()
    ]


def _pruning_averages(rows: Sequence[PruningRow]) -> list[Entry]:
    entries = []
    # The losses are printed with fewer digits than their mean, so the recomputed mean is a range.
    hidden = 100 * Decimal("0.005") + SCORE_ROUNDING
    for row in rows:
        label = f"{row.regime}, {row.pruned_pct} %"
        mean = sum(row.scores.values(), Decimal()) / len(row.scores)
        loss = 100 * sum(row.losses, Decimal()) / len(row.losses)
        printed, reason = row.avg_train_loss_pct, _rounding_reason(row.avg, mean, 2 * SCORE_ROUNDING)
        entries += [
            _entry(PruningRow, label, "average", row.avg, mean, "points", reason),
            _entry(PruningRow, label, "average loss", printed, loss, "× 0.01 nats", hidden=hidden),
        ]
    return entries


def _rounding_reason(printed: Decimal, exact: Decimal, hidden: Decimal) -> str:
    if same_to_the_digit(printed, exact):
        return ""
    within = "this difference included" if abs(printed - exact) <= hidden else "but not this difference"
    return f"the rounding of the row's printed figures explains up to {hidden.normalize()}, {within}"


def _movva_sizes(rows: Sequence[SizeRow]) -> list[Entry]:
    entries = []
    for row in rows:
        config = bert(*BERT_SHAPES.get(row.size, (row.layers, row.hidden)))
        encoder, head = count(config).total, masked_language_head(config)
        millions, with_head = Decimal(encoder) / 10**6, Decimal(encoder + head) / 10**6
        verdict = "equals it" if same_to_the_digit(row.params_millions, with_head) else "is close to it"
        reason = f"BERT plus an untied MLM head is {with_head:.1f} M, which {verdict}"
        entries.append(_entry(SizeRow, row.size, "parameters", row.params_millions, millions, "M", reason))
        reason = "4 bytes for each parameter of the encoder; the printed count also includes the head"
        entries.append(_entry(SizeRow, row.size, "size", row.size_mb, millions * 4, "MB", reason, slack=1))
    return entries


def _students(students: Sequence[StudentRow], compressed: Sequence[StudentCompressionRow]) -> list[Entry]:
    entries = []
    accuracies = {}
    for row in students:
        label = f"{row.student} {row.embedding} {row.dim}"
        exponent = row.params.as_tuple().exponent
        half = Decimal(5).scaleb(exponent - 1 if isinstance(exponent, int) else 0)
        hidden = 4 * half / 10**6 + Decimal("0.005")
        exact = 4 * row.params / 10**6
        entries.append(_entry(StudentRow, label, "size", row.size_mb, exact, "MB", hidden=hidden))
        name = f"{row.student}-{row.embedding}-{row.dim}".replace("Hash-2500-25", "Hash-25-vocab2500")
        accuracies[name] = (row.no_distill, row.no_distill_boot, row.alpha05_boot, row.alpha0_boot)
    for compact in compressed:
        if compact.compression is not None or compact.model not in accuracies:
            continue
        kind, printed = StudentCompressionRow, compact.sst2_acc
        nearest = min(accuracies[compact.model], key=lambda accuracy: abs(accuracy - printed))
        reason = "compared with the nearest of the four trainings in Table 7.1, which is rounded"
        entries.append(
            _entry(
                kind,
                compact.model,
                "SST-2 accuracy",
                printed,
                nearest,
                "points",
                reason,
                hidden=SCORE_ROUNDING,
            )
        )
    return entries
