"""The small tables beside the boards: sizes by the survey's formula, realised speedups, and how tables print."""

from __future__ import annotations

import pytest

from harness.common.errors import Code
from leaderboard.survey.artifacts import by_convention, by_count, sizes_table
from leaderboard.survey.roofline import realisation_table
from leaderboard.survey.sizes import BASE, EMBEDDING_SHARE
from leaderboard.tables.model import Column, Table
from leaderboard.tables.plain import to_csv, to_markdown, to_text
from tests.support.board_records import facts, profile
from tests.support.one_line_errors import refused


def test_sizes_by_the_survey_s_formula_and_by_count() -> None:
    """Half of the layers, all words: s + 0.5 (1 − s)."""
    half = facts("half").model_copy(
        update={
            "survey_params": BASE.total - BASE.layers / 2,
            "survey_params_without_embeddings": BASE.without_word_embedding - BASE.layers / 2,
            "survey_layer_params": BASE.layers / 2,
        }
    )
    assert by_convention(half) == pytest.approx((100 * (EMBEDDING_SHARE + (1 - EMBEDDING_SHARE) / 2), 50.0))
    assert by_convention(half)[0] == pytest.approx(60.7, abs=0.01)
    assert by_count(half) == pytest.approx((61.16, 50.6), abs=0.03)
    with refused(Code.WRONG_VERSION):
        by_convention(facts("old"))


def test_the_sizes_table_says_what_is_not_built() -> None:
    base = profile("baseline", model="bert-base", artifact=facts("b", disk=400))
    half = facts("h", disk=100).model_copy(
        update={
            "survey_params": BASE.total - BASE.layers / 2,
            "survey_params_without_embeddings": BASE.without_word_embedding - BASE.layers / 2,
            "survey_layer_params": BASE.layers / 2,
        }
    )
    built = profile("distilbert:layers=6", model="bert-base", artifact=half)
    table = sizes_table([base, built])
    (row,) = table.records()
    assert (row["survey_with"], row["survey_without"], row["honest"]) == (60.7, 50.0, 25.0)
    assert row["difference"] < 0.05
    assert row["from_recomputed"] < 0.02
    assert "gobo" in table.notes[-1]
    with refused(Code.NO_DATA, "skyline reproduce ganesh2021"):
        sizes_table([base])


def test_speedups_over_the_ratio_of_flops() -> None:
    whole = profile("baseline", model="bert-base")
    assert whole.profile is not None
    half = profile("theseus:layers=6", model="bert-base", flops=1_000_000_000, speedup=1.8)
    same = profile("magnitude", model="bert-base")
    records = [
        record.model_copy(
            update={"profile": record.profile.model_copy(update={"baseline": whole.profile.total})}
        )
        for record in (half, same)
        if record.profile is not None
    ]
    (row,) = realisation_table([whole, *records]).records()
    assert row["flops_ratio"] == 2.0
    assert row["realised"] == pytest.approx(0.9)
    with refused(Code.NO_DATA, "skyline run realised-speed"):
        realisation_table([whole, records[1]])


def test_a_table_in_each_form() -> None:
    table = Table.of(
        name="t",
        title="A | title",
        columns=[Column(key="name", heading="Na|me"), Column(key="value", heading="Value", digits=2)],
        rows=[["a|b", 1.005], ["c", None]],
        notes=["a *note*"],
    )
    markdown = to_markdown(table).splitlines()
    assert markdown[0] == r"| Na\|me   |   Value |"
    assert "1.00" in markdown[2]
    assert "–" in markdown[3]
    assert markdown[-1] == r"- a \*note\*"
    assert to_csv(table) == "name,value\na|b,1.005\nc,\n"
    assert to_text(table).startswith("A | title\n")
