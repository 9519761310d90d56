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

from harness.common.errors import Code, SkylineError
from harness.recipes.recipe import BASELINE, Recipe
from harness.records.schema import ArtifactFacts, Record
from leaderboard.boards.names import Cards, recipe_title
from leaderboard.boards.record_selection import newest
from leaderboard.published_tables import reading as published
from leaderboard.survey.sizes import BASE, EMBEDDING_SHARE, ENCODER_ONLY, RECOMPUTED, with_embeddings
from leaderboard.tables.model import Column, Table, Value

CONVENTION, COUNTED = "convention", "counted"


@dataclass(frozen=True)
class Reading:
    """A row of the survey and the recipe that builds it. `by` is the way of counting that its columns follow;
    `compare` the columns that can be reproduced from the paper at all; `left_out`, parameters that the paper's own
    count leaves out.
    """

    row: int
    recipe: str
    by: str = CONVENTION
    compare: tuple[str, ...] = ("with", "without")
    remark: str = ""
    left_out: int = 0

    def sizes(self, facts: ArtifactFacts) -> tuple[float, float]:
        """Percent of BERT-base with and without word embeddings, as the row's paper counts."""
        if self.by == CONVENTION:
            return by_convention(facts)
        whole, without = by_count(facts)
        return (
            whole - 100 * self.left_out / BASE.total,
            without - 100 * self.left_out / BASE.without_word_embedding,
        )


SMALL_ALBERT = "vocabulary-pruning:keep=30000 > embedding-factorization:rank=128 > albert"

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
    Reading(
        9,
        "[lightpaff]",
        by=COUNTED,
        left_out=512 * 512,
        remark="counted without positions and pooler, as the paper's figure implies; the shape is inferred from it",
    ),
    Reading(
        10,
        "[mkd-bilstm]",
        by=COUNTED,
        remark="288 units a direction, by the 11 MB of the survey's text; the paper's are not known",
    ),
    Reading(
        11,
        "[adabert]",
        by=COUNTED,
        remark="one cell for three: kernels by the mean of the tasks' parameters, as no cell is published",
    ),
    Reading(12, "minilm:layers=6"),
    Reading(13, "distilbert:layers=6"),
    Reading(
        14, "[mobilebert]", by=COUNTED, compare=(), remark="the published 25.3 M; its shape holds 24.6 M"
    ),
    Reading(
        15,
        "[tinybert-4]",
        by=COUNTED,
        compare=("with",),
        remark="the print counts the distillation's projection; 6.4 without embeddings follows from no count",
    ),
    Reading(
        16,
        "[zhao-48]",
        by=COUNTED,
        compare=(),
        remark="the published parameters are three times those of the described model",
    ),
    Reading(
        17, "svd:rank=245", by=COUNTED, compare=(), remark="245 is remembered; 250 would give 60.3 and 49.5"
    ),
    Reading(18, "deformer:layers=9", remark="its speed rests on passages whose states are cached"),
    Reading(
        19,
        "[deebert]",
        remark="each row leaves after layer 9 of 12, as stated: the published distribution is not known; the survey "
        "charges no exit ramps",
    ),
    Reading(
        20,
        "power-bert:retention=77/63/56/53/43/40/36/24/18/14/11/3",
        remark="RTE's retention, remembered, for half its length: those of MNLI and SST-2 are not published",
    ),
    Reading(
        21,
        SMALL_ALBERT,
        by=COUNTED,
        compare=("with",),
        remark="30,000 tokens, as ALBERT's own; the positions stay as wide as the layers",
    ),
    Reading(
        22,
        "[ladabert] > magnitude:sparsity=0.245",
        by=COUNTED,
        remark="word embeddings of half the size; rank and sparsity are ours, the paper's are not known",
    ),
    Reading(23, "dynabert:width=0.25,depth=0.5"),
    Reading(
        24,
        "distilbert:layers=6 > gobo:bits=4",
        compare=("with",),
        remark="3.9 without embeddings follows from no formula",
    ),
    Reading(
        25,
        "[mobilebert] > dynamic-int8",
        by=COUNTED,
        remark="biases and norms stay in float32",
    ),
    Reading(
        26,
        f"{SMALL_ALBERT} > magnitude:sparsity=0.4,embeddings=true > magnitude:sparsity=0.6 > dynamic-int8",
        remark="40 % of the encoder and 60 % of the embeddings, in int8 for 8-bit floats; no adaptive span, no exits",
    ),
)
"""The survey's 25 rows, which the suite `ganesh2021` builds."""

COLUMNS = (
    Column("method", "Method"),
    Column("survey_with", "Survey, with embeddings", "%"),
    Column("ours_with", "Ours", digits=2),
    Column("survey_without", "Survey, without", "%"),
    Column("ours_without", "Ours", digits=2),
    Column("by", "Counted by"),
    Column("difference", "From the print", "points", digits=2),
    Column("from_recomputed", "From the recomputed", digits=2),
    Column("honest", "Bytes on disk", "%", digits=2),
    Column("remark", "Remark"),
)


def by_convention(facts: ArtifactFacts) -> tuple[float, float]:
    """Percent of BERT-base with and without word embeddings, by the survey's formula. Raises SkylineError where a
    record is too old to hold the layers' share.
    """
    if facts.survey_layer_params is None:
        raise SkylineError(
            "a record is of before sizes were kept by layer; run its suite again", Code.WRONG_VERSION
        )
    density = facts.survey_layer_params / BASE.layers
    words = (facts.survey_params - facts.survey_params_without_embeddings) / BASE.word_embedding
    return 100 * (EMBEDDING_SHARE * words + (1 - EMBEDDING_SHARE) * density), 100 * density


def by_count(facts: ArtifactFacts) -> tuple[float, float]:
    """Percent of BERT-base with and without word embeddings, every weight counted."""
    without = facts.survey_params_without_embeddings
    return 100 * facts.survey_params / BASE.total, 100 * without / BASE.without_word_embedding


def sizes_table(records: Iterable[Record], tables: Path | None = None, cards: Cards | None = None) -> Table:
    """The table, for the readings of which there is a profile at BERT-base size. Raises SkylineError where there is
    none at all.
    """
    found, _ = newest(records)
    facts = {
        record.recipe: record.artifact
        for record in found
        if record.kind == "profile" and record.model == "bert-base" and record.artifact is not None
    }
    printed = published.survey_lines(tables)
    base = facts.get(BASELINE)
    rows: list[list[Value]] = []
    missing = []
    for reading in READINGS:
        recipe = str(Recipe.parse(reading.recipe))
        if recipe not in facts or base is None:
            missing.append(recipe)
            continue
        mine, line = facts[recipe], printed[reading.row]
        ours = reading.sizes(mine)
        theirs = (float(line.size_with_emb_pct), float(line.size_without_emb_pct))
        gaps = _largest(reading, ours, theirs), _largest(reading, ours, recomputed(line))
        title = f"{line.paper_method} ({line.provenance}): {recipe_title(reading.recipe, cards or {})}"
        honest = 100 * mine.disk_bytes / base.disk_bytes
        pairs = (theirs[0], ours[0], theirs[1], ours[1])
        rows.append([title, *pairs, reading.by, *gaps, honest, reading.remark])
    if not rows:
        raise SkylineError(
            "no row of the survey was built yet; `skyline reproduce ganesh2021 --out profiles` does",
            Code.NO_DATA,
        )
    notes = [
        "convention: share of word embeddings × their density + the rest × the layers' density, masks and scales free; "
        "count: every weight of the artifact in the same way",
        "the larger difference of the columns that follow from what the paper describes; – where none does",
        "recomputed: the survey's convention on what the paper describes (see the ledger of published tables)",
        "bytes on disk: of the artifact over the float32 baseline's, everything charged",
        *([f"not built yet: {', '.join(missing)}"] if missing else []),
    ]
    return Table.of(
        name="sizes",
        title="Sizes at BERT-base, beside Ganesh et al. 2021, Table 1",
        columns=COLUMNS,
        rows=rows,
        notes=notes,
    )


def recomputed(line: published.SurveyRow) -> tuple[float | None, float | None]:
    """Both columns of a row as its paper's description gives them (see `sizes`)."""
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
