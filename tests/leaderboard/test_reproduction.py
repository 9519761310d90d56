"""The survey's rows measured again: the board, the ledger of claims and the repeat, over records made by hand; and the
sizes of what is built, counted without building it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.common.errors import Code
from harness.models.architectures import ARCHITECTURES
from harness.models.config import EncoderConfig
from harness.models.factory import make_model
from harness.models.parameter_counts import count
from harness.recipes.recipe import Recipe
from harness.records.schema import ArtifactFacts, Record, Workload
from harness.runs.resolution import check_recipe
from leaderboard.published_tables.reading import survey_lines
from leaderboard.survey.artifacts import READINGS, Reading
from leaderboard.survey.claims_ledger import (
    MeasuredClaim,
    claims_table,
    measured_claims,
    tally_speeds,
    verdict_of,
)
from leaderboard.survey.reproduction import chosen_rows, recipe_of, repeat_table, reproduction_table, slug
from leaderboard.survey.sizes import BASE
from leaderboard.survey.workload_grid import grid_table
from leaderboard.tables.plain import to_markdown
from tests.support.board_records import HARDWARE, facts, profile
from tests.support.one_line_errors import refused
from tests.support.paired_latency import without_verdict

LINES = survey_lines()
BY_ROW = {reading.row: reading for reading in READINGS}


def measured(row: int, **more: Any) -> Record:
    whole = counted(BASE.word_embedding, BASE.without_word_embedding, BASE.layers)
    return profile(recipe_of(BY_ROW[row]), model="bert-base", **{"artifact": whole, **more})


def counted(words: int, without: int, layers: int) -> ArtifactFacts:
    """The facts of an artifact in float32 with so many weights."""
    return facts("counted").model_copy(
        update={
            "survey_params": float(words + without),
            "survey_params_without_embeddings": float(without),
            "survey_layer_params": float(layers),
        }
    )


def facts_of(reading: Reading) -> ArtifactFacts:
    """Of what a reading's recipe makes of BERT-base, counted from its configuration. The classifier is left out."""
    config = check_recipe(Recipe.parse(reading.recipe), "bert-base")
    if isinstance(config, EncoderConfig):
        parts = count(config)
        rest = parts.without_word_embedding - parts.classifier - parts.exits
        return counted(parts.word_embedding, rest, parts.layers)
    with torch.device("meta"):
        model = make_model(config)
    numbers = {name: tensor.numel() for name, tensor in model.named_parameters()}
    words = numbers["embedding.word.weight"]
    rest = sum(
        n for name, n in numbers.items() if not name.startswith(("embedding.word.", "head.classifier."))
    )
    return counted(words, rest, 0)


def test_every_row_but_the_baseline_is_read_once() -> None:
    assert [reading.row for reading in READINGS] == [row for row in LINES if row != 1]
    assert len(READINGS) == 25


@pytest.mark.parametrize("row", [8, 9, 10, 11, 12, 13, 15, 18, 20, 21])
def test_dense_rows_have_the_published_size(row: int) -> None:
    reading, line = BY_ROW[row], LINES[row]
    whole, without = reading.sizes(facts_of(reading))
    assert whole == pytest.approx(float(line.size_with_emb_pct), abs=0.3)
    if "without" in reading.compare:
        assert without == pytest.approx(float(line.size_without_emb_pct), abs=0.3)


def test_half_the_layers_by_the_formula() -> None:
    # The published 60.7 and 50.0: s + d (1 - s) with d = 1/2.
    half = counted(BASE.word_embedding, BASE.without_word_embedding, BASE.layers // 2)
    assert BY_ROW[13].sizes(half) == (pytest.approx(60.71, abs=0.01), pytest.approx(50.0))


def test_what_a_paper_does_not_count_is_left_out() -> None:
    whole = Reading(9, "[lightpaff]", by="counted")
    own = facts_of(whole)
    less = replace(whole, left_out=BASE.total // 100)
    assert whole.sizes(own)[0] - less.sizes(own)[0] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("published_figure", "found", "within", "verdict"),
    [
        (50.0, 50.3, 0.3, "reproduced"),
        (50.0, 49.7, 0.3, "reproduced"),
        (50.0, 50.31, 0.3, "above"),
        (50.0, 49.69, 0.3, "below"),
        (2.0, 2.2, 0.1, "above"),
    ],
)
def test_verdicts(published_figure: float, found: float, within: float, verdict: str) -> None:
    assert verdict_of(published_figure, found, within) == verdict


def test_the_board_has_a_line_for_each_profile_and_one_for_what_is_missing() -> None:
    base = profile("baseline", model="bert-base", artifact=facts("b", disk=400))
    half = counted(BASE.word_embedding, BASE.without_word_embedding, BASE.layers // 2)
    half = half.model_copy(update={"disk_bytes": 100})
    records = [
        base,
        *(
            measured(13, artifact=half, flops=1_000_000_000, speedup=1.9, runtime=r)
            for r in ("openvino", "eager")
        ),
    ]
    table = reproduction_table(records)
    lines = [line for line in table.records() if line["row"] == 13]
    assert [line["on"] for line in lines] == ["eager, cpu", "openvino, cpu"]
    assert lines[0]["disk_pct"] == 25.0
    assert lines[0]["flops_ratio"] == 2.0
    assert (lines[0]["survey_cpu"], lines[0]["speedup"], lines[0]["survey_drop"]) == (1.73, 1.9, -1.73)
    assert {line["row"] for line in table.records()} == set(range(2, 27))
    missing = next(line for line in table.records() if line["row"] == 15)
    assert (missing["status"], missing["speedup"]) == ("not measured yet", None)
    assert "DistilBERT" in to_markdown(table)


def test_a_failed_profile_says_why() -> None:
    failed = measured(13).model_copy(
        update={"profile": None, "artifact": None, "status": "oom", "reason": "no\nroom"}
    )
    (line,) = [line for line in reproduction_table([failed]).records() if line["row"] == 13]
    assert line["status"] == "oom: no room"
    claims = {claim.figure: claim for claim in measured_claims([failed], readings=[BY_ROW[13]])}
    assert claims["CPU speedup"].verdict == "not comparable"
    assert claims["CPU speedup"].reason == "oom under eager, cpu: no room"


def cpu_claim(row: int, *records: Record) -> MeasuredClaim:
    """The claim of a row's CPU speedup."""
    claims = measured_claims(records, readings=[BY_ROW[row]])
    (claim,) = (claim for claim in claims if claim.figure == "CPU speedup")
    return claim


def unsettled(record: Record) -> Record:
    """The record with an interval that stayed too wide."""
    assert record.profile is not None
    changed = record.profile.model_copy(update={"latency": without_verdict(1.2, 2.4)})
    return record.model_copy(update={"profile": changed})


def test_a_verdict_belongs_to_a_runtime_and_the_published_one_counts() -> None:
    eager, faster = measured(13, speedup=1.6), measured(13, speedup=1.75, runtime="openvino")
    for records in ((eager, faster), (faster, eager)):
        claim = cpu_claim(13, *records)
        assert (claim.measured, claim.on, claim.verdict) == (1.6, "eager, cpu at (1, 128)", "below")
        (other,) = claim.others
        assert (other.on, other.measured, other.verdict) == ("openvino, cpu", 1.75, "reproduced")
        assert not claim.reached
        assert claim.reached_elsewhere
    tally = tally_speeds(measured_claims([eager, faster]))
    assert (tally.measured, tally.reached, tally.reached_elsewhere) == (1, 0, 1)
    (row,) = (row for row in claims_table([claim]).records() if row["row"] == 13)
    assert row["others"] == "openvino, cpu: 1.75 (reproduced)"


def test_a_speedup_under_other_runtimes_alone_is_not_comparable() -> None:
    claim = cpu_claim(13, measured(13, speedup=1.75, runtime="openvino"))
    assert (claim.measured, claim.verdict) == (None, "not comparable")
    assert claim.others[0].verdict == "reproduced"
    assert claim.reason


def test_no_verdict_is_a_verdict_of_its_own() -> None:
    wide, other = unsettled(measured(13)), unsettled(measured(13, runtime="openvino"))
    claim = cpu_claim(13, wide, other)
    assert (claim.measured, claim.low, claim.high, claim.verdict) == (None, 1.2, 2.4, "no verdict")
    assert claim.others[0].verdict == "no verdict"
    (line,) = (row for row in reproduction_table([wide], readings=[BY_ROW[13]]).records() if row["row"] == 13)
    assert (line["speedup"], line["low"], line["over_eager"]) == ("no verdict", 1.2, None)
    elsewhere = measured(13, speedup=1.75, workload=Workload(batch=8, length=32))
    (cells,) = (line.cells[3:] for line in grid_table([wide, elsewhere], readings=[BY_ROW[13]]).lines)
    assert [cell.value for cell in cells] == ["no verdict", 1.75]


def test_a_row_with_cached_passages_is_judged_by_them() -> None:
    cached = measured(18, workload=Workload(batch=1, length=320, cached=300), speedup=3.0)
    for records in ((measured(18, speedup=1.0), cached), (cached, measured(18, speedup=1.0))):
        claim = cpu_claim(18, *records)
        assert claim.measured == 3.0
        assert "TensorFlow" in claim.reason


def test_what_falls_short_has_a_reason() -> None:
    for row, line in LINES.items():
        if row == 1 or line.speedup_cpu is None or line.speedup_cpu <= 1:
            continue
        record = measured(row, speedup=1.01, flops=1_900_000_000)
        (claim,) = [c for c in measured_claims([record], readings=[BY_ROW[row]]) if c.figure == "CPU speedup"]
        assert not claim.reached or claim.published <= 1.01
        assert claim.reason


def test_more_than_the_arithmetic_is_told_from_less_than_it() -> None:
    short = {"flops": 1_000_000_000, "speedup": 1.5}
    (claim,) = [
        c
        for c in measured_claims([measured(15, **short)], readings=[BY_ROW[15]])
        if c.figure == "CPU speedup"
    ]
    assert "the ratio of FLOPs, 2.00" in claim.reason
    (claim,) = [
        c
        for c in measured_claims([measured(13, **short)], readings=[BY_ROW[13]])
        if c.figure == "CPU speedup"
    ]
    assert "75 % of it is realised" in claim.reason


def test_the_tally_counts_the_sixteen_rows() -> None:
    records = [measured(13, speedup=1.8), measured(15, speedup=5.0)]
    tally = tally_speeds(measured_claims(records))
    assert (tally.rows, tally.measured, tally.reached) == (16, 2, 1)
    assert tally.line in claims_table(measured_claims(records)).notes


def test_speedup_over_eager_counts_apart() -> None:
    record = measured(15, speedup=5.0, runtime="openvino")
    assert record.profile is not None
    assert record.profile.latency is not None
    faster = record.profile.latency.model_copy(update={"speedup": 12.0})
    record = record.model_copy(update={"profile": record.profile.model_copy(update={"over_eager": faster})})
    tally = tally_speeds(measured_claims([record]))
    assert (tally.reached, tally.reached_over_eager) == (0, 1)


def test_figures_of_accelerators_and_accuracy_are_not_comparable() -> None:
    claims = {c.figure: c for c in measured_claims([measured(15)], readings=[BY_ROW[15]])}
    assert claims["GPU speedup"].verdict == "not comparable"
    assert "K80" in claims["GPU speedup"].reason
    assert claims["drop"].recomputed == pytest.approx(-1.0)
    on_cuda = measured(15, device="cuda", speedup=9.4)
    (claim,) = [c for c in measured_claims([on_cuda], readings=[BY_ROW[15]]) if c.figure == "GPU speedup"]
    assert claim.verdict == "reproduced"


def test_another_base_model_proves_nothing() -> None:
    record = measured(13, speedup=1.73).model_copy(update={"model": "bert-tiny"})
    claims = measured_claims([record], model="bert-tiny", readings=[BY_ROW[13]])
    assert {claim.verdict for claim in claims} == {"not comparable"}


def test_rows_by_number_and_name() -> None:
    assert [reading.row for reading in chosen_rows(["15", "Q-BERT"])] == [15, 2]
    assert chosen_rows([]) == READINGS
    assert len({slug(LINES[reading.row]) for reading in READINGS}) == 25
    with refused(Code.UNKNOWN_NAME, "'tinybert'"):
        chosen_rows(["tinybrt"])
    with refused(Code.OUT_OF_RANGE, "2 to 26"):
        chosen_rows(["1"])


def test_the_repeat_tells_largest_and_median() -> None:
    first = [measured(12, speedup=2.0), measured(13, speedup=2.0), measured(15, speedup=4.0)]
    second = [measured(12, speedup=2.02), measured(13, speedup=2.1), measured(15, speedup=4.0)]
    table = repeat_table(first, second)
    assert [row["difference_pct"] for row in table.records()] == pytest.approx([5.0, 1.0, 0.0])
    assert table.notes[0] == "3 speedups: the largest difference is 5.00 %, the median 1.00 %"


def test_a_repeat_is_of_the_same_cells_and_machine() -> None:
    with refused(Code.NO_DATA):
        repeat_table([measured(12)], [measured(13)])
    other = HARDWARE.model_copy(update={"id": "other-8c"})
    moved = measured(12)
    moved = moved.model_copy(update={"provenance": moved.provenance.model_copy(update={"hardware": other})})
    with refused(Code.NOT_COMPARABLE, "other-8c", HARDWARE.id):
        repeat_table([measured(12)], [moved])


def test_cached_passages_have_a_line_of_their_own() -> None:
    cached = measured(18, workload=Workload(batch=1, length=320, cached=300), speedup=3.0)
    lines = [line for line in reproduction_table([measured(18), cached]).records() if line["row"] == 18]
    assert [line["workload"] for line in lines] == ["(1, 128)", "(1, 320, 300 cached)"]


def test_architectures_are_read_from_recipes() -> None:
    used = {recipe.start for recipe in (Recipe.parse(reading.recipe) for reading in READINGS)}
    assert used - {None} == set(ARCHITECTURES)


def test_the_grid_has_a_column_for_each_workload_the_usual_first() -> None:
    rows = Workload(batch=1, length=128, inputs="real", task="mrpc")
    records = [
        measured(12, speedup=2.5, workload=Workload(batch=8, length=32)),
        measured(12, speedup=2.0, workload=Workload(batch=1, length=128)),
        measured(12, speedup=1.9, workload=rows),
        measured(15, speedup=9.0, workload=Workload(batch=1, length=128)),
        measured(15, speedup=8.0, workload=Workload(batch=1, length=64)),
        measured(13, speedup=3.0, workload=Workload(batch=1, length=128)),
    ]
    table = grid_table(records)
    headings = [column.heading for column in table.columns[3:]]
    assert headings == ["(1, 128)", "(1, 64)", "(8, 32)", "(1, 128 at most, rows of mrpc)"]
    assert [[cell.value for cell in (line.cells[0], *line.cells[3:])] for line in table.lines] == [
        [12, 2.0, None, 2.5, 1.9],
        [15, 9.0, 8.0, None, None],
    ]
    with refused(Code.NO_DATA, "--grid"):
        grid_table(records[-1:])


def test_claims_are_held_against_the_usual_workload() -> None:
    usual = measured(12, speedup=1.5, workload=Workload(batch=1, length=128))
    large = measured(12, speedup=2.5, workload=Workload(batch=32, length=128))
    for records, on in (([usual, large], "(1, 128)"), ([large], "(32, 128)")):
        claims = measured_claims(records, readings=[BY_ROW[12]])
        (speed,) = (claim for claim in claims if claim.figure == "CPU speedup")
        assert speed.on.endswith(on)
