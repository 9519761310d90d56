"""The small tables beside the boards: verdicts from intervals, sizes by the survey's formula, and how they print."""

from __future__ import annotations

import pytest

from harness.common.errors import Code
from harness.records.schema import Record, Training, Workload
from leaderboard.findings.curves import curves_table
from leaderboard.findings.trials import findings_table, verdict
from leaderboard.survey.artifacts import by_convention, by_count, sizes_table
from leaderboard.survey.roofline import realisation_table
from leaderboard.survey.sizes import BASE, EMBEDDING_SHARE
from leaderboard.tables.model import Column, Table
from leaderboard.tables.plain import to_csv, to_markdown, to_text
from tests.support.board_records import facts, profile, quality, replicates
from tests.support.one_line_errors import refused


@pytest.mark.parametrize(
    ("expected", "mean", "low", "high", "said"),
    [
        ("above", 2.0, 0.5, 3.5, "reproduced"),
        ("above", 2.0, -0.5, 4.5, "agrees"),
        ("above", -1.0, -2.5, 0.5, "differs"),
        ("above", -2.0, -3.5, -0.5, "contradicted"),
        ("below", -2.0, -3.5, -0.5, "reproduced"),
        ("below", 2.0, 0.5, 3.5, "contradicted"),
        ("above", 2.0, None, None, "no verdict"),
    ],
)
def test_what_an_interval_says(expected, mean, low, high, said) -> None:
    assert verdict(expected, mean, low, high) == said


def test_with_a_margin_a_small_loss_is_as_expected() -> None:
    assert verdict("above", -0.5, -1.4, 0.4, margin=1.5) == "reproduced"
    assert verdict("above", -0.5, -2.4, 1.4, margin=1.5) == "agrees"
    assert verdict("above", -3.0, -4.0, -2.0, margin=1.5) == "contradicted"


def test_a_finding_needs_both_sides_on_a_task_and_a_seed() -> None:
    above, below = "magnitude:sparsity=0.6", "random-pruning:sparsity=0.6"
    records = [
        quality(above, "sst2", 90.0),
        quality(below, "sst2", 80.0),
        quality(above, "mrpc", 80.0, 0),
        quality(above, "mrpc", 82.0, 1),
        quality(below, "mrpc", 81.0, 1, resampled=replicates(81.0, 9.0, seed=5)),
        quality(above, "cola", 50.0),
    ]
    rows = {row["task"]: row for row in findings_table(records).records()}
    assert set(rows) == {"SST-2", "MRPC"}
    assert rows["SST-2"]["difference"] == pytest.approx(10.0)
    assert rows["SST-2"]["verdict"] == "reproduced"
    assert (rows["MRPC"]["seeds"], rows["MRPC"]["first"], rows["MRPC"]["second"]) == (1, 82.0, 81.0)
    assert rows["MRPC"]["verdict"] == "agrees"
    with refused(Code.NO_DATA, "skyline run findings"):
        findings_table(records[-1:])


def with_figures(record: Record, **figures: float) -> Record:
    """The record with a stage that found these figures."""
    stage = Training(
        stage="a stage",
        epochs=1.0,
        steps=1,
        examples=1,
        seconds=1.0,
        final_loss=1.0,
        precision="float32",
        figures=figures,
    )
    assert record.quality is not None
    return record.model_copy(update={"quality": record.quality.model_copy(update={"training": [stage]})})


def test_a_setting_is_named_by_what_the_records_found() -> None:
    patient, sure = "pabee:patience=3", "deebert:speed=1.19"
    record, other = quality(patient, "sst2", 89.0), quality(sure, "sst2", 88.0)
    # The speeds were chosen for one task.
    elsewhere = [quality(patient, "mrpc", 80.0), quality(sure, "mrpc", 80.0)]
    (row,) = findings_table([with_figures(record, flops_ratio=1.234), other, *elsewhere]).records()
    assert row["setting"] == "patience 3, 1.23 times as fast in FLOPs"
    (row,) = findings_table([record, other]).records()
    assert row["setting"] == patient


def test_the_share_of_masks_that_fine_tuning_changes() -> None:
    record = quality("magnitude:sparsity=0.6", "mrpc", 80.0)
    (row,) = findings_table([with_figures(record, mask_changed=0.031)]).records()
    assert row["first"] == pytest.approx(3.1)
    assert row["verdict"] == "reproduced"


def test_curves_join_scores_and_profiles_of_one_setting() -> None:
    slow, fast, other = "deebert:speed=1.5", "deebert:speed=3.0", "pabee:speed=2.0"
    trained = with_figures(quality(slow, "sst2", 89.0), threshold=0.31, mean_depth=4.25)
    real = Workload(batch=1, length=128, inputs="real")
    records = [
        quality("baseline", "sst2", 91.0),
        quality(fast, "sst2", 85.0),
        trained,
        quality(other, "sst2", 88.0),
        quality(other, "sst2", 90.0, 1),
        quality("magnitude:sparsity=0.6", "sst2", 88.0),
        quality("deebert:speed=2.0 > dynamic-int8", "sst2", 88.0),
        profile(slow, task="sst2", seed=0, flops=1_600_000_000, speedup=1.2, workload=real),
        profile(
            slow, task="sst2", seed=0, flops=1_900_000_000, speedup=1.0, workload=Workload(batch=1, length=64)
        ),
        profile(
            slow,
            task="sst2",
            seed=0,
            flops=1_800_000_000,
            speedup=1.1,
            workload=Workload(batch=8, inputs="real"),
        ),
        profile(fast, task="sst2", seed=0, flops=800_000_000, speedup=2.2, workload=real),
    ]
    rows = curves_table(records, cards={"deebert": {"title": "DeeBERT"}}).records()
    assert [row["method"] for row in rows] == [
        "DeeBERT (speed=1.5)",
        "DeeBERT (speed=3.0)",
        "pabee (speed=2.0)",
    ]
    first, second, third = rows
    assert (first["threshold"], first["depth"], first["score"], first["drop"]) == (0.31, 4.25, 89.0, -2.0)
    # The profile on rows of the task counts: 2.0 GFLOPs over 1.6.
    assert (first["flops_ratio"], first["speedup"]) == (pytest.approx(1.25), 1.2)
    assert second["flops_ratio"] == pytest.approx(2.5)
    assert (third["seeds"], third["score"], third["drop"]) == (2, 89.0, pytest.approx(-3.0))
    assert third["flops_ratio"] is third["speedup"] is third["threshold"] is None
    with refused(Code.NO_DATA, "deebert", "power-bert"):
        curves_table(records[:1])


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
