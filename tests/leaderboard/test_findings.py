"""The papers' findings: which records are compared, and what the comparison says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.common.errors import Code
from harness.recipes.recipe import Recipe
from harness.records.schema import Provenance, Record
from leaderboard.findings.scored_runs import ScoredRuns
from leaderboard.findings.statements import CONTROL, FINDINGS
from leaderboard.findings.trials import findings_table, verdict
from tests.support.board_records import quality, replicates
from tests.support.one_line_errors import refused
from tests.support.scored_records import answering, stage_with, under, with_figures, with_training

ABOVE, BELOW = "magnitude:sparsity=0.6", "random-pruning:sparsity=0.6"
PROTOCOL = "a-protocol"


def rows_of(records: list[Record], protocol: str | None = None) -> list[dict[str, object]]:
    """The rows of all findings that the records say something about."""
    table = findings_table(records, protocol=protocol)
    return [row for row in table.records() if row["verdict"] != "no record"]


@pytest.mark.parametrize(
    ("shift", "p", "said"),
    [
        (2.0, 0.05, "reproduced"),
        (2.0, 0.051, "agrees"),
        (-2.0, 0.05, "contradicted"),
        (-2.0, 0.051, "differs"),
        (2.0, None, "no verdict"),
    ],
)
def test_what_a_p_value_says(shift: float, p: float | None, said: str) -> None:
    assert verdict(shift, p) == said


def test_a_finding_needs_both_sides_on_a_task_and_a_seed() -> None:
    records = [
        quality(ABOVE, "sst2", 90.0),
        quality(BELOW, "sst2", 80.0),
        quality(ABOVE, "mrpc", 80.0, 0),
        quality(ABOVE, "mrpc", 82.0, 1),
        quality(BELOW, "mrpc", 81.0, 1, resampled=replicates(81.0, 9.0, seed=5)),
        quality(ABOVE, "cola", 50.0),
    ]
    rows = {row["task"]: row for row in rows_of(records)}
    assert set(rows) == {"SST-2", "MRPC"}
    assert rows["SST-2"]["difference"] == pytest.approx(10.0)
    assert rows["SST-2"]["verdict"] == "reproduced"
    assert (rows["MRPC"]["seeds"], rows["MRPC"]["first"], rows["MRPC"]["second"]) == (1, 82.0, 81.0)
    assert rows["MRPC"]["verdict"] == "agrees"
    with refused(Code.NO_DATA, "skyline run measured"):
        findings_table(records[-1:])


def test_only_recipes_of_one_protocol_budget_and_precision_are_compared() -> None:
    short, long = {"epochs": 1, "learning_rate": 1e-4}, {"epochs": 3, "learning_rate": 1e-4}
    first = under(quality(ABOVE, "sst2", 90.0), recipe=short)
    for other in (
        under(quality(BELOW, "sst2", 80.0), recipe=long),
        under(quality(BELOW, "sst2", 80.0), PROTOCOL, recipe=short),
        under(quality(BELOW, "sst2", 80.0, seed=1), recipe=short),
        under(quality(BELOW, "sst2", 80.0, data="e" * 64), recipe=short),
        with_training(under(quality(BELOW, "sst2", 80.0), recipe=short), stage_with("bfloat16")),
    ):
        (row,) = rows_of([first, other])
        assert (row["verdict"], row["difference"]) == ("not comparable", None)
    same = under(quality(BELOW, "sst2", 81.0), recipe=short)
    longer = [under(quality(r, "sst2", s), recipe=long) for r, s in ((ABOVE, 95.0), (BELOW, 80.0))]
    (row,) = rows_of([first, same, *longer[1:]])
    assert (row["first"], row["second"]) == (90.0, 81.0)
    # Of several budgets, the newest record decides.
    new = [record.model_copy(update={"provenance": started(record, "2031")}) for record in longer]
    (row,) = rows_of([*new, first, same])
    assert (row["first"], row["second"]) == (95.0, 80.0)


def started(record: Record, year: str) -> Provenance:
    """The record's provenance, started in another year."""
    return record.provenance.model_copy(update={"started": f"{year}-01-01T00:00:00+00:00"})


def test_a_protocol_chooses_rates_so_they_may_differ() -> None:
    pair = [
        under(quality(r, "sst2", s), PROTOCOL, recipe={"epochs": 1, "learning_rate": rate})
        for r, s, rate in ((ABOVE, 90.0, 1e-4), (BELOW, 80.0, 3e-4))
    ]
    (row,) = rows_of(pair, PROTOCOL)
    assert row["verdict"] == "reproduced"
    without = [record.model_copy(update={"cell": {**record.cell, "protocol": None}}) for record in pair]
    (row,) = rows_of(without)
    assert row["verdict"] == "not comparable"


def test_under_a_protocol_other_records_are_not_read() -> None:
    old = [quality(ABOVE, "sst2", 90.0), quality(BELOW, "sst2", 80.0)]
    table = findings_table(old, protocol=PROTOCOL)
    assert {row["verdict"] for row in table.records()} == {"no record"}
    assert len(table.lines) == len(FINDINGS) + 1
    held = [under(record, PROTOCOL, split="held-out") for record in old]
    assert rows_of(held, PROTOCOL) == []


def test_a_side_with_one_answer_makes_a_finding_void() -> None:
    first, second = quality(ABOVE, "sst2", 90.0), quality(BELOW, "sst2", 60.0)
    (row,) = rows_of([answering(first, 430, 442), answering(second, 8, 864)])
    assert (row["verdict"], row["p"]) == ("void", None)
    assert row["difference"] == pytest.approx(30.0)
    # 98.9 % of 872 examples are not constant.
    (row,) = rows_of([answering(first, 430, 442), answering(second, 10, 862)])
    assert row["verdict"] == "reproduced"
    # Without predictions the score tells: 444 of 872 examples are positive.
    (row,) = rows_of([first, quality(BELOW, "sst2", 100 * 444 / 872)])
    assert row["verdict"] == "void"


def test_all_tested_comparisons_are_corrected_together() -> None:
    noise = replicates(0.0, 1.0, seed=3)
    records = []
    for sparsity, gain in ((0.4, 2.2), (0.6, 2.6), (0.5, 20.0), (0.85, 20.0)):
        for method, score in (("magnitude", 70.0 + gain), ("random-pruning", 70.0)):
            extra = noise if method == "magnitude" else [0.0] * len(noise)
            values = [v + e for v, e in zip(replicates(score), extra, strict=True)]
            recipe = str(Recipe.parse(f"{method}:sparsity={sparsity}"))
            one = quality(recipe, "sst2", score, resampled=values)
            collapsed = sparsity == 0.85 and method == "random-pruning"
            records.append(answering(one, 872, 0) if collapsed else one)
    rows = {row["setting"]: row for row in rows_of(records)}
    error = np.std(noise, ddof=1)
    from_scipy = {gain: 2 * stats.norm.sf(gain / error) for gain in (2.2, 2.6)}
    # The void comparison is not in the family, so there are three: 20.0, then 2.6, then 2.2.
    assert rows["60 % pruned"]["p"] == pytest.approx(2 * from_scipy[2.6])
    assert rows["40 % pruned"]["p"] == pytest.approx(max(2 * from_scipy[2.6], from_scipy[2.2]))
    assert [rows[f"{s} % pruned"]["verdict"] for s in (40, 60, 50, 85)] == [*3 * ["reproduced"], "void"]


def test_the_seed_variance_is_pooled_over_recipes_with_several_seeds() -> None:
    base = {seed: 90.0 + seed for seed in range(3)}
    differences = {"magnitude": {0: 1.0, 1: 3.0}, "svd": {0: 0.0, 1: 0.0, 2: 3.0}, "gobo": {0: -9.0}}
    records = [quality("baseline", "sst2", score, seed) for seed, score in base.items()]
    records += [
        quality(recipe, "sst2", base[seed] + difference, seed)
        for recipe, own in differences.items()
        for seed, difference in own.items()
    ]
    pooled = sum(np.var(list(own.values())) * len(own) for own in differences.values()) / (1 + 2)
    assert ScoredRuns.of(records, "minilm-l6").seed_variance("sst2") == pytest.approx(pooled)
    assert pooled == pytest.approx(8 / 3)
    assert ScoredRuns.of(records[:1], "minilm-l6").seed_variance("sst2") is None


def test_the_randomness_of_training_widens_the_interval_of_one_seed() -> None:
    pair = [quality(ABOVE, "sst2", 83.0), quality(BELOW, "sst2", 80.0)]
    assert rows_of(pair)[0]["verdict"] == "reproduced"
    others = [quality(r, "sst2", s, seed) for seed, s in ((0, 85.0), (1, 91.0)) for r in ("baseline",)]
    others += [quality("svd", "sst2", 85.0, seed) for seed in (0, 1)]
    row = rows_of([*pair, *others])[0]
    # The differences 0 and -6 have the variance 18, and two recipes deviate from the baseline.
    assert row["high"] - row["low"] == pytest.approx(2 * 1.959964 * np.sqrt(2 * 18), rel=1e-6)
    assert row["verdict"] == "agrees"


def test_a_margin_counts_as_expected() -> None:
    kept = {"word-vectors kept": 0.5 * 384}
    for score, said in ((89.0, "reproduced"), (86.0, "contradicted")):
        first = with_figures(quality("power-bert", "sst2", score), **kept)
        (row,) = rows_of([first, with_training(quality(CONTROL, "sst2", 90.0), stage_with())])
        assert (row["verdict"], row["setting"]) == (said, "192 of 384 left, padding among them")


def test_a_setting_that_does_not_test_the_finding_is_left_out() -> None:
    control = with_training(quality(CONTROL, "sst2", 90.0), stage_with())
    less = with_figures(quality("power-bert", "sst2", 80.0), **{"word-vectors kept": 0.3 * 384})
    assert rows_of([less, control], PROTOCOL) == []
    with refused(Code.NO_DATA):
        findings_table([less, control])


def test_exits_are_compared_at_equal_speed() -> None:
    patient = with_figures(quality("pabee:patience=3", "sst2", 89.0), flops_ratio=1.234)
    equal, slower, unknown = (
        with_training(quality("deebert:speed=1.25", "sst2", 88.0), stage_with(**figures))
        for figures in ({"flops_ratio": 1.19}, {"flops_ratio": 1.1}, {})
    )
    (row,) = rows_of([patient, equal])
    assert row["setting"] == "patience 3, 1.23 times as fast in FLOPs"
    for other in (slower, unknown):
        with refused(Code.NO_DATA):
            findings_table([patient, other])


def test_the_share_of_masks_that_fine_tuning_changes() -> None:
    record = quality(ABOVE, "mrpc", 80.0)
    (row,) = rows_of([with_figures(record, mask_changed=0.031)])
    assert row["first"] == pytest.approx(3.1)
    assert row["verdict"] == "reproduced"
    (row,) = rows_of([with_figures(record, mask_changed=0.31)])
    assert row["verdict"] == "contradicted"


def test_the_recipes_of_a_comparison_have_as_many_stages() -> None:
    for finding in FINDINGS:
        for comparison in finding.comparisons:
            sides = [side for side in (comparison.first, comparison.second) if side != CONTROL]
            assert {len(Recipe.parse(side).stages) for side in sides} == {1}
