"""`skyline reproduce`: its cells, wrong options, and a run on a tiny model.

Also architectures in recipes, passages with cached states, and exits at a given layer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.cli.reproduce import reproduce
from harness.common.errors import Code
from harness.models.architectures import ARCHITECTURES
from harness.models.artifacts import load_artifact
from harness.models.attention_kinds import SegmentAttention
from harness.models.config import EncoderConfig, ExitRule, LayerConfig
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.exits import Judge
from harness.models.encoder.segment_cache import SecondCached
from harness.models.flops.counting import mean_flops
from harness.profiling.costs.cached import with_cache
from harness.profiling.inputs import Inputs
from harness.recipes.builder import build_untrained
from harness.recipes.fingerprints import artifact_fingerprint
from harness.recipes.recipe import Recipe
from harness.records.cells import BudgetSpec, ProfileCell, QualityCell
from harness.records.schema import Workload
from harness.records.store import Store, read_records
from harness.runs.planning import resolve_cells
from harness.runs.prebuilding import untrained_artifacts
from harness.runs.run import run_cells
from harness.runs.suites import load_suite
from leaderboard.survey.artifacts import READINGS
from leaderboard.survey.reproducing import GRID, cells_of
from leaderboard.survey.reproduction import chosen_rows, recipe_of, with_published_speedup
from tests.support.one_line_errors import refused


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_the_suite_is_the_survey() -> None:
    cells = load_suite("ganesh2021").cells()
    assert {cell.recipe for cell in cells} == {"baseline", *map(recipe_of, READINGS)}
    # 25 rows, the baseline, and DeFormer a second time.
    assert len(cells) == 27


def test_cells_of_rows_runtimes_precisions_and_shapes() -> None:
    rows = chosen_rows(["distilbert"])
    cells = cells_of(rows, [(1, 32), (8, 128)], ["eager", "openvino"], ["float32", "int8"])
    assert len(cells) == 2 * 2 * 2 * 2
    assert {cell.recipe for cell in cells} == {"baseline", recipe_of(rows[0])}
    assert len(cells_of(chosen_rows([]), GRID, ["eager"], ["float32"])) == 26 * len(GRID)
    cached = [
        cell
        for cell in cells_of(chosen_rows(["deformer"]), None, ["eager"], ["float32"])
        if cell.recipe != "baseline"
    ]
    assert {cell.workload.cached for cell in cached if isinstance(cell, ProfileCell)} == {None, 300}


def test_sixteen_rows_have_a_published_speedup() -> None:
    assert len(with_published_speedup(READINGS)) == 16


def test_each_artifact_is_built_once_the_baseline_first() -> None:
    cells = cells_of(chosen_rows(["deformer"]), None, ["eager", "openvino"], ["float32"])
    recipes = [profiles[0].recipe for profiles in untrained_artifacts(cells)]
    assert recipes == ["baseline", "deformer:layers=9"]


@pytest.mark.parametrize(
    ("table", "options", "code", "name"),
    [
        ("movva2022", {}, Code.UNSUPPORTED, "'movva2022'"),
        ("ganesh2020", {}, Code.UNKNOWN_NAME, "'ganesh2021'"),
        ("ganesh2021", {"row": ["mobilbert"]}, Code.UNKNOWN_NAME, "'mobilebert'"),
        ("ganesh2021", {"runtime": ["openvin"]}, Code.UNKNOWN_NAME, "'openvino'"),
        ("ganesh2021", {"precision": ["int"]}, Code.UNKNOWN_NAME, "'int8'"),
        ("ganesh2021", {"grid": True, "seq": 32}, Code.CONFLICT, "--grid"),
        ("ganesh2021", {"task": "mrcp"}, Code.UNKNOWN_NAME, "'mrpc'"),
        ("ganesh2021", {"against": Path("none"), "out": Path("none")}, Code.NO_DATA, "none"),
        ("ganesh2021", {"further": -1.0}, Code.OUT_OF_RANGE, "--further -1.0"),
        ("ganesh2021", {"further": 1.0, "sittings": 1}, Code.CONFLICT, "--sittings"),
        ("ganesh2021", {"row": ["q-bert"], "seq": 4096, "model": "bert-tiny"}, Code.TOO_LONG, "4096"),
    ],
)
def test_impossible_options_are_refused(table: str, options: dict[str, Any], code: Code, name: str) -> None:
    with refused(code, name):
        reproduce(table, **options)


def test_a_recipe_can_start_from_an_architecture() -> None:
    recipe = Recipe.parse(" [mobilebert]>dynamic-int8 ")
    assert str(recipe) == "[mobilebert] > dynamic-int8"
    assert Recipe.parse(str(recipe)) == recipe
    assert str(recipe.parent) == "[mobilebert]"
    assert recipe.parent is not None
    assert recipe.parent.parent == Recipe()
    assert not recipe.parent.is_baseline
    with refused(Code.UNKNOWN_NAME, "'mobilebert'"):
        Recipe.parse("[mobilebrt]")
    with refused(Code.UNREADABLE, "[mobilebert]"):
        Recipe.parse("dynamic-int8 > [mobilebert]")


def test_architectures_have_fingerprints_of_their_own() -> None:
    def of(text: str) -> str:
        budgets = {"baseline": None, "recipe": None}
        return artifact_fingerprint(Recipe.parse(text), origin="x", data="none", seed=0, budgets=budgets)

    texts = ("baseline", "[tinybert-4]", "[zhao-48]", "dynamic-int8", "[tinybert-4] > dynamic-int8")
    assert len({of(text) for text in texts}) == len(texts)


def test_an_architecture_cannot_be_trained() -> None:
    cell = QualityCell(
        recipe="[zhao-48]", model="bert-tiny", task="toy-sentiment", seed=0, budget=BudgetSpec()
    )
    with refused(Code.CONFLICT, "[zhao-48]"):
        resolve_cells([cell])


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_architectures_are_built(name: str, tmp_path: Path) -> None:
    folder, _ = build_untrained(Recipe.parse(f"[{name}]"), "bert-tiny", tmp_path)
    model = load_artifact(folder)
    (batch,) = Inputs.of(Workload(batch=2, length=8)).batches(model.config.vocab_size)
    with torch.inference_mode():
        assert model(batch).logits.isfinite().all()
    assert model.config == ARCHITECTURES[name]


def test_stated_exits_leave_where_they_are_told() -> None:
    layers = (LayerConfig(heads=2, head_size=4, ffn_size=16, exit="pooler"),) * 3
    layers += (layers[0].model_copy(update={"exit": None}),)
    rule = ExitRule(kind="stated", threshold=2)
    config = EncoderConfig(hidden_size=8, vocab_size=30, positions=16, layers=layers, exit_rule=rule)
    model = Encoder(config).initialize(torch.Generator().manual_seed(0)).eval()
    (batch,) = Inputs.of(Workload(batch=3, length=6)).batches(30)
    assert model(batch).depths.tolist() == [2, 2, 2]
    # Counting traces the passes; two of four layers are run through.
    counted = mean_flops(model, [batch])
    assert counted.mean_depth == 2
    assert not counted.uncounted
    judge = Judge(rule)
    assert [bool(judge.done(torch.zeros(1, 2))) for _ in range(3)] == [False, True, True]


def segmented(layers: int, separate: int) -> Encoder:
    usual = LayerConfig(heads=2, head_size=8, ffn_size=32)
    apart = usual.model_copy(update={"attention": SegmentAttention()})
    config = EncoderConfig(
        hidden_size=16,
        vocab_size=50,
        positions=32,
        layers=(apart,) * separate + (usual,) * (layers - separate),
        segment_positions="own",
    )
    return Encoder(config).initialize(torch.Generator().manual_seed(0)).eval()


def test_cached_passages_give_the_same_answers() -> None:
    model = segmented(3, 2)
    inputs = Inputs.of(Workload(batch=2, length=12, cached=9))
    batches = inputs.batches(50)
    assert batches[0].token_type_ids.sum(1).tolist() == [9, 9]
    run, own = with_cache(model, batches, 9)
    assert isinstance(run, SecondCached)
    assert own[0].input_ids.shape == (2, 3)
    with torch.inference_mode():
        torch.testing.assert_close(run(own[0]).logits, model(batches[0]).logits, atol=1e-5, rtol=1e-5)


def test_other_models_read_whole_rows() -> None:
    model = Encoder(EncoderConfig.bert(1, 16, 2, vocab_size=50, positions=32))
    batches = Inputs.of(Workload(batch=2, length=12, cached=9)).batches(50)
    run, own = with_cache(model, batches, 9)
    assert run is model
    assert own == batches


def test_a_cached_workload_leaves_tokens_to_read_and_keeps_older_keys() -> None:
    with pytest.raises(ValueError, match="cached"):
        Workload(batch=1, length=8, cached=8)
    assert "cached" not in Workload(batch=1, length=8).model_dump()
    assert Workload.model_validate_json(Workload(length=8, cached=4).model_dump_json()).cached == 4
    assert str(Workload(batch=1, length=8, cached=4)) == "(1, 8, 4 cached)"


def test_rows_of_a_task_are_real_inputs() -> None:
    with pytest.raises(ValueError, match="real inputs"):
        Workload(batch=1, length=8, task="mrpc")
    workload = Workload(batch=1, length=8, inputs="real", task="mrpc")
    assert str(workload) == "(1, 8 at most, rows of mrpc)"
    assert Workload.model_validate_json(workload.model_dump_json()) == workload
    assert "task" not in Workload(batch=1, length=8, inputs="real").model_dump()


def test_a_tasks_rows_take_the_place_of_one_length() -> None:
    cells = cells_of(
        chosen_rows(["deformer"]), [(1, 32)], ["eager"], ["float32"], task="mrpc", model="bert-tiny"
    )
    assert [cell.recipe for cell in cells] == ["baseline", "deformer:layers=9"]
    assert {str(cell.workload) for cell in cells if isinstance(cell, ProfileCell)} == {
        "(1, 32 at most, rows of mrpc)"
    }


def test_runtimes_that_read_whole_rows_skip_cached_ones() -> None:
    cell = ProfileCell(recipe="deformer:layers=1", model="bert-tiny", workload=Workload(length=12, cached=8))
    eager, compiled = resolve_cells([cell, cell.model_copy(update={"runtime": "compile"})])
    assert eager.unsupported is None
    assert "whole rows" in (compiled.unsupported or "")


@pytest.mark.slow
def test_rows_are_measured_and_not_measured_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run() -> dict[str, object]:
        reproduce(
            "ganesh2021", row=["2", "16"], seq=8, model="bert-tiny", time_cap=1.0, out=tmp_path, json_=True
        )
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    first = run()
    assert (first["recorded"], first["fresh"], first["failed"]) == (3, 0, [])
    board = first["board"]
    assert isinstance(board, dict)
    assert [line["row"] for line in board["rows"]] == [2, 16]
    assert all(line["status"] == "ok" and line["ours_with"] > 0 for line in board["rows"])
    again = run()
    assert (again["recorded"], again["fresh"]) == (0, 3)
    assert again["board"] == board


@pytest.mark.slow
def test_rows_of_a_task_are_read_by_all_artifacts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Row 16 has a smaller vocabulary and no tokenizer: it reads the baseline's tokens.
    given: dict[str, Any] = {"model": "bert-tiny", "time_cap": 1.0, "out": tmp_path, "json_": True}
    reproduce("ganesh2021", row=["16"], seq=24, task="Toy-Sentiment", **given)
    found = json.loads(capsys.readouterr().out)
    assert (found["recorded"], found["failed"]) == (2, [])
    reproduce("ganesh2021", row=["16"], seq=24, **given)
    found = json.loads(capsys.readouterr().out)
    assert (found["recorded"], found["failed"]) == (2, [])
    records, _ = read_records(tmp_path)
    flops = {
        (r.recipe, r.profile.workload.task): r.profile.total.flops for r in records if r.profile is not None
    }
    assert len(flops) == 4
    for recipe in {recipe for recipe, _ in flops}:
        # Most rows are shorter than 24 tokens, none is longer.
        assert 0 < flops[recipe, "toy-sentiment"] < flops[recipe, None]


@pytest.mark.slow
def test_cached_passages_are_profiled(tmp_path: Path) -> None:
    workload = Workload(batch=1, length=16)
    plain = ProfileCell(recipe="deformer:layers=1", model="bert-tiny", workload=workload, time_cap_s=1.0)
    cached = plain.model_copy(update={"workload": workload.model_copy(update={"cached": 12})})
    outcome = run_cells([plain, cached], tmp_path, quiet=True)
    assert not outcome.failed
    whole, less = (Store(tmp_path).find(cell) for cell in (plain, cached))
    assert whole is not None
    assert less is not None
    assert whole.profile is not None
    assert less.profile is not None
    assert less.profile.workload.cached == 12
    # The baseline reads whole pairs; the artifact's lower layer four tokens of sixteen.
    assert less.profile.baseline is not None
    assert less.profile.baseline.flops == whole.profile.total.flops
    assert less.profile.total.flops < 0.75 * whole.profile.total.flops
    assert less.profile.total.params == whole.profile.total.params
