"""Sizes of artifacts that were built at BERT-base size, beside the size columns of Ganesh et al. 2021, Table 1.

The survey gives a method that changes the encoder alone the size s · e + (1 − s) · d: s is the share of the word
embeddings in BERT-base, e their density and d that of the layers, both with a weight of k bits as k / 32 and with
masks, scales and tables free. Positions, pooler and norms outside the layers follow d. That is the column
"convention"; "counted" counts every weight in the same way; "honest" is bytes of the artifact over the baseline's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.errors import SkylineError
from harness.recipe import Recipe
from harness.records import ArtifactFacts, Record
from leaderboard import published
from leaderboard.joining import newest
from leaderboard.names import BASELINE, Cards, recipe_title
from leaderboard.plain_tables import Cell, Column, PlainTable
from leaderboard.survey_sizes import BASE, EMBEDDING_SHARE, ENCODER_ONLY, RECOMPUTED, with_embeddings

CONVENTION, COUNTED = "convention", "counted"


@dataclass(frozen=True)
class Reading:
    """A row of the survey and the recipe that builds it. `by` is the way of counting that its columns follow;
    `compare` the columns that can be reproduced from the paper at all.
    """

    row: int
    recipe: str
    by: str = CONVENTION
    compare: tuple[str, ...] = ("with", "without")
    remark: str = ""


READINGS: tuple[Reading, ...] = (
    Reading(2, "q-bert", remark="printed without a decimal; biases and norms stay in float32"),
    Reading(
        3,
        "gobo",
        compare=("with",),
        remark="5.5 without embeddings follows from no formula; random weights have fewer outliers than trained ones",
    ),
    Reading(4, "reweighted-proximal:sparsity=0.412"),
    Reading(5, "lottery-ticket:sparsity=0.65", remark="the mean of four tasks' sparsities"),
    Reading(6, "movement:sparsity=0.97"),
    Reading(7, "identity-prior", remark="the target; no list of removed modules is published"),
    Reading(
        8, "schubert:keep=0.391,dimensions=hidden", by=COUNTED, remark="hidden size 300; a review names 304"
    ),
    Reading(13, "theseus:layers=6", remark="the row of DistilBERT, which has the same layers"),
    Reading(
        17, "svd:rank=245", by=COUNTED, compare=(), remark="245 is remembered; 250 would give 60.3 and 49.5"
    ),
    Reading(
        21,
        "vocabulary-pruning:keep=30000 > embedding-factorization:rank=128 > albert",
        by=COUNTED,
        compare=("with",),
        remark="30,000 tokens, as ALBERT's own; the positions stay as wide as the layers",
    ),
    Reading(23, "dynabert:width=0.25,depth=0.5"),
)

COLUMNS = (
    Column(key="method", heading="Method"),
    Column(key="survey_with", heading="Survey, with embeddings (%)"),
    Column(key="ours_with", heading="Ours", digits=2),
    Column(key="survey_without", heading="Survey, without (%)"),
    Column(key="ours_without", heading="Ours", digits=2),
    Column(key="by", heading="Counted by"),
    Column(key="difference", heading="From the print (points)", digits=2),
    Column(key="from_recomputed", heading="From the recomputed", digits=2),
    Column(key="honest", heading="Bytes on disk (%)", digits=2),
    Column(key="remark", heading="Remark"),
)


def by_convention(facts: ArtifactFacts) -> tuple[float, float]:
    """Percent of BERT-base with and without word embeddings, by the survey's formula. Raises SkylineError where a
    record is too old to hold the layers' share.
    """
    if facts.survey_layer_params is None:
        raise SkylineError("a record is of before sizes were kept by layer; run its suite again")
    density = facts.survey_layer_params / BASE.layers
    words = (facts.survey_params - facts.survey_params_without_embeddings) / BASE.word_embedding
    return 100 * (EMBEDDING_SHARE * words + (1 - EMBEDDING_SHARE) * density), 100 * density


def by_count(facts: ArtifactFacts) -> tuple[float, float]:
    """Percent of BERT-base with and without word embeddings, every weight counted."""
    without = facts.survey_params_without_embeddings
    return 100 * facts.survey_params / BASE.total, 100 * without / BASE.without_word_embedding


def sizes_table(
    records: Iterable[Record], tables: Path | None = None, cards: Cards | None = None
) -> PlainTable:
    """The table, for the readings of which there is a profile at BERT-base size. Raises SkylineError where there is
    none at all.
    """
    found, _ = newest(records)
    facts = {
        record.recipe: record.artifact
        for record in found
        if record.kind == "profile" and record.model == "bert-base" and record.artifact is not None
    }
    printed = {line.row: line for line in published.load_survey(published.published_folder(tables))}
    base = facts.get(BASELINE)
    rows: list[list[Cell]] = []
    missing = []
    for reading in READINGS:
        recipe = str(Recipe.parse(reading.recipe))
        if recipe not in facts or base is None:
            missing.append(recipe)
            continue
        mine, line = facts[recipe], printed[reading.row]
        ours = (by_convention if reading.by == CONVENTION else by_count)(mine)
        theirs = (float(line.size_with_emb_pct), float(line.size_without_emb_pct))
        again = _recomputed(line)
        gap, again_gap = _largest(reading, ours, theirs), _largest(reading, ours, again)
        title = f"{line.paper_method} ({line.provenance}): {recipe_title(reading.recipe, cards or {})}"
        honest = 100 * mine.disk_bytes / base.disk_bytes
        rows.append(
            [
                title,
                theirs[0],
                ours[0],
                theirs[1],
                ours[1],
                reading.by,
                gap,
                again_gap,
                honest,
                reading.remark,
            ]
        )
    if not rows:
        raise SkylineError(
            "no row of the survey was built yet; `skyline run survey-sizes --out profiles` does"
        )
    notes = [
        "convention: share of word embeddings × their density + the rest × the layers' density, masks and scales free; "
        "count: every weight of the artifact in the same way",
        "the larger difference of the columns that follow from what the paper describes; – where none does",
        "recomputed: the survey's convention on what the paper describes (see the ledger of published tables)",
        "bytes on disk: of the artifact over the float32 baseline's, everything charged",
        *([f"not built yet: {', '.join(missing)}"] if missing else []),
    ]
    return PlainTable(
        name="sizes",
        title="Sizes at BERT-base, beside Ganesh et al. 2021, Table 1",
        columns=list(COLUMNS),
        rows=rows,
        notes=notes,
    )


def _recomputed(line: published.SurveyRow) -> tuple[float | None, float | None]:
    """Both columns of a row as its paper's description gives them (see `survey_sizes`)."""
    if line.row in ENCODER_ONLY:
        density = float(line.size_without_emb_pct)
        return with_embeddings(density), density
    again = RECOMPUTED.get(line.row)
    return (None, None) if again is None else (again.with_embeddings, again.without_embeddings)


def _largest(
    reading: Reading, ours: tuple[float, float], theirs: tuple[float | None, float | None]
) -> float | None:
    gaps = dict(zip(("with", "without"), zip(ours, theirs, strict=True), strict=True))
    compared = [(a, b) for a, b in (gaps[name] for name in reading.compare) if b is not None]
    return max((abs(a - b) for a, b in compared), default=None)
