"""Sizes of artifacts built at BERT-base size, compared with the size columns of Ganesh et al. 2021, Table 1.

There are three ways to give a size. The survey's convention is s · e + (1 − s) · d for a method that changes only the
encoder: s is the share of the word embeddings in BERT-base, e their density, and d the density of the layers. A weight
of k bits counts k / 32. Masks, scales and tables count nothing. Positions, pooler and outer norms follow d.
"Counted" counts every weight of the artifact in this way. "Honest" divides the artifact's bytes by the baseline's.
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
    """A row of the survey and the recipe that builds it.

    `by` is the way in which the row's sizes are counted, `compare` the size columns that can be reproduced from the
    paper, and `left_out` the number of parameters that the paper's own count leaves out.
    """

    row: int
    recipe: str
    by: str = CONVENTION
    compare: tuple[str, ...] = ("with", "without")
    remark: str = ""
    left_out: int = 0

    def sizes(self, facts: ArtifactFacts) -> tuple[float, float]:
        """Compute the sizes with and without word embeddings, in percent of BERT-base, as the row's paper counts."""
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
        remark="no formula gives 5.5 without embeddings; random weights have fewer outliers than trained weights",
    ),
    Reading(4, "reweighted-proximal:sparsity=0.412"),
    Reading(5, "lottery-ticket:sparsity=0.65", remark="the mean of four tasks' sparsities"),
    Reading(6, "movement:sparsity=0.97"),
    Reading(7, "identity-prior", remark="the paper's target size; it does not list the removed modules"),
    Reading(
        8, "schubert:keep=0.391,dimensions=hidden", by=COUNTED, remark="hidden size 300; a review names 304"
    ),
    Reading(
        9,
        "[lightpaff]",
        by=COUNTED,
        left_out=512 * 512,
        remark="counted without positions and pooler; this and the shape are inferred from the paper's figure",
    ),
    Reading(
        10,
        "[mkd-bilstm]",
        by=COUNTED,
        remark="288 units in each direction, from the 11 MB in the survey's text; the paper does not give them",
    ),
    Reading(
        11,
        "[adabert]",
        by=COUNTED,
        remark="one cell for three tasks: kernels from the mean of their parameters, because no cell is published",
    ),
    Reading(12, "minilm:layers=6"),
    Reading(13, "distilbert:layers=6"),
    Reading(14, "[mobilebert]", by=COUNTED, compare=(), remark="published: 25.3 M; the shape has 24.6 M"),
    Reading(
        15,
        "[tinybert-4]",
        by=COUNTED,
        compare=("with",),
        remark="the paper counts the projection used in distillation; no count gives 6.4 without embeddings",
    ),
    Reading(
        16,
        "[zhao-48]",
        by=COUNTED,
        compare=(),
        remark="the published number of parameters is three times the number in the described model",
    ),
    Reading(
        17, "svd:rank=245", by=COUNTED, compare=(), remark="245 is remembered; 250 would give 60.3 and 49.5"
    ),
    Reading(18, "deformer:layers=9", remark="its speed relies on cached states of passages"),
    Reading(
        19,
        "[deebert]",
        remark="every input exits after layer 9 of 12, as stated; the exit distribution is not published; the survey "
        "does not count exit ramps",
    ),
    Reading(
        20,
        "power-bert:retention=77/63/56/53/43/40/36/24/18/14/11/3",
        remark="RTE's retention, remembered, for half its length; the retention of MNLI and SST-2 is not published",
    ),
    Reading(
        21,
        SMALL_ALBERT,
        by=COUNTED,
        compare=("with",),
        remark="30,000 tokens, as in ALBERT; positions are as wide as the layers",
    ),
    Reading(
        22,
        "[ladabert] > magnitude:sparsity=0.245",
        by=COUNTED,
        remark="word embeddings of half the size; rank and sparsity are our choice, the paper gives none",
    ),
    Reading(23, "dynabert:width=0.25,depth=0.5"),
    Reading(
        24,
        "distilbert:layers=6 > gobo:bits=4",
        compare=("with",),
        remark="no formula gives 3.9 without embeddings",
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
        remark="40 % of the encoder, 60 % of the embeddings; int8 instead of 8-bit floats; no adaptive span, no exits",
    ),
)
"""The survey's 25 rows. The suite `ganesh2021` builds them."""

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
    """Compute the sizes with and without word embeddings, in percent of BERT-base, by the survey's formula.

    Raises SkylineError (wrong-version) for a record that is too old to have the layers' share.
    """
    if facts.survey_layer_params is None:
        raise SkylineError(
            "a record is older than the sizes of layers; run its suite again", Code.WRONG_VERSION
        )
    density = facts.survey_layer_params / BASE.layers
    words = (facts.survey_params - facts.survey_params_without_embeddings) / BASE.word_embedding
    return 100 * (EMBEDDING_SHARE * words + (1 - EMBEDDING_SHARE) * density), 100 * density


def by_count(facts: ArtifactFacts) -> tuple[float, float]:
    """Compute the sizes with and without word embeddings, in percent of BERT-base, counting every weight."""
    without = facts.survey_params_without_embeddings
    return 100 * facts.survey_params / BASE.total, 100 * without / BASE.without_word_embedding


def sizes_table(records: Iterable[Record], tables: Path | None = None, cards: Cards | None = None) -> Table:
    """Make the table, with a row for each reading that has a profile at BERT-base size.

    Raises SkylineError (no-data) if there is no such profile.
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
            "no row of the survey was built yet; run `skyline reproduce ganesh2021 --out profiles`",
            Code.NO_DATA,
        )
    notes = [
        "convention: share of the word embeddings × their density + the rest × the layers' density; masks and scales "
        "count nothing",
        "counted: every weight of the artifact, in the same way",
        "from the print: the larger difference of the columns that follow from the paper's description; – if none does",
        "recomputed: the survey's convention, applied to the paper's description (see the ledger of published tables)",
        "bytes on disk: all bytes of the artifact over those of the float32 baseline",
        *([f"not built yet: {', '.join(missing)}"] if missing else []),
    ]
    return Table.of(
        name="sizes",
        title="Sizes at BERT-base, compared with Ganesh et al. 2021, Table 1",
        columns=COLUMNS,
        rows=rows,
        notes=notes,
    )


def recomputed(line: published.SurveyRow) -> tuple[float | None, float | None]:
    """Return both size columns (percent) as they follow from the paper's description (see `sizes`)."""
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
