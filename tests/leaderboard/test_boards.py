"""Boards over records: joins, ranks, fronts, and what must never vanish."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest
from factory import CARDS, HARDWARE, card, example_records, facts, failed, profile, quality, replicates

from harness.discovery import discover
from harness.errors import NotComparable, SkylineError
from harness.recipe import Recipe
from harness.records import Workload
from leaderboard import architecture_board, installed_cards, measured_board, published_board
from leaderboard.names import claimed_costs, recipe_family, recipe_parts, recipe_title

KEYS = {
    *("id", "title", "family", "recipe", "scores", "drop", "drop_ci95", "tasks", "size_pct", "disk_bytes"),
    *("flops", "speedup", "peak_memory_bytes", "pareto", "pareto_probability", "realised", "source"),
}


def by_recipe(board):
    return {row.recipe: row for row in board.rows}


# --- the published board


def test_published_board_has_26_rows_with_the_baseline():
    data = json.loads(published_board().to_json())
    rows = data["rows"]
    assert len(rows) == 26
    assert rows[0].keys() >= KEYS
    assert [row["baseline"] for row in rows] == [True] + 25 * [False]
    assert rows[0]["drop"] == 0.0
    assert rows[0]["scores"] == {"mnli": 84.6, "qqp": 89.2, "sst2": 93.5, "squad": 88.5}
    assert {axis["key"] for axis in data["axes"]} == {"size", "gpu-latency", "cpu-latency"}
    adabert = next(row for row in rows if row["recipe"] == "AdaBERT")
    assert round(adabert["drop"], 2) == -1.73
    assert adabert["drop_published"] == -2.06
    assert all(row["rank"] is None for row in rows)


def test_published_fronts_compare_on_shared_tasks_only():
    rows = by_recipe(published_board())
    # RPP reports SQuAD alone; MobileBERT has it, scores higher and is smaller.
    assert rows["RPP"].drop == 0.0
    assert not rows["RPP"].pareto
    assert rows["EdgeBERT"].pareto  # the smallest
    assert "gpu-latency" not in rows["spectral-normalized identity prior"].fronts


@pytest.mark.parametrize(("table", "rows"), [("gordon2020", 40), ("movva2022", 6), ("lilbobby", 44)])
def test_the_other_tables_are_boards_too(table, rows):
    board = published_board(table=table)
    assert len(board.rows) == rows
    assert sum(row.baseline for row in board.rows) == 1
    base = next(row for row in board.rows if row.baseline)
    assert base.drop == 0.0
    assert any(row.pareto for row in board.rows)
    assert board.name == table


def test_movvas_ratios_are_sizes_of_each_combination():
    board = published_board(table="movva2022-ratios")
    rows = {row.title: row for row in board.rows}
    assert len(rows) == 6 * (1 + 7)
    assert sum(row.baseline for row in board.rows) == 6
    row = rows["BERT BASE, QAT + KD + MP"]
    assert (row.disk_bytes, row.family) == (round(438e6 / 11.1), "combination")
    assert row.disk_pct == pytest.approx(100 / 11.1)
    assert row.notes == ["printed: 11.1 times smaller"]
    assert rows["BERT TINY, MP"].disk_pct == pytest.approx(100 / 0.7)  # it grew
    assert all((row.drop, row.scores, row.fronts) == (None, {}, {}) for row in board.rows)
    assert not any("scores" in note and "as printed" in note for note in board.notes)


def test_unknown_tables_and_axes_suggest_the_nearest():
    with pytest.raises(SkylineError, match="did you mean 'movva2022'"):
        published_board(table="movva2020")
    with pytest.raises(SkylineError, match="did you mean 'size'"):
        published_board(axis="sizes")
    with pytest.raises(SkylineError, match="did you mean 'latency'"):
        measured_board(example_records(), axis="latencies")


# --- the measured board


def test_rows_have_all_keys_and_the_board_round_trips_as_json():
    board = measured_board(example_records(), cards=CARDS)
    data = json.loads(board.to_json())
    for row in data["rows"]:
        assert row.keys() >= KEYS
        assert "replicates" not in row
    assert data["axes"][0].keys() >= {"key", "title", "unit"}
    assert type(board).model_validate(data).to_json() == board.to_json()


def test_scores_drops_and_costs_of_one_row():
    row = by_recipe(measured_board(example_records(), cards=CARDS))["kd-logits:layers=3 > dynamic-int8"]
    assert row.title == "Distillation from logits (layers=3) > Dynamic int8"
    assert row.family == "combination"
    assert row.scores == {"sst2": 88.1, "mrpc": pytest.approx(79.0)}
    assert row.drop == pytest.approx(((88.1 - 91.0) + (79.0 - 84.0)) / 2)
    assert row.drop_ci95[0] < row.drop < row.drop_ci95[1]
    assert row.tasks == ["sst2", "mrpc"]
    assert row.seeds == {"sst2": [0], "mrpc": [0, 1, 2]}
    assert (row.disk_bytes, row.flops, row.speedup) == (53_000_000, 1_380_000_000, 3.1)
    assert row.disk_pct == pytest.approx(100 * 53.0 / 90.9)
    assert row.size_pct == pytest.approx(100 * 53.0 / 90.9)
    assert "SST-2, seed 0" in row.source
    assert row.costs["latency"] == pytest.approx(1 / 3.1)


def test_the_front_of_the_example():
    board = measured_board(example_records(), cards=CARDS)
    front = {row.recipe for row in board.rows if row.pareto}
    assert front == {
        "baseline",
        "magnitude:sparsity=0.4",
        "dynamic-int8",
        "magnitude:sparsity=0.6 > dynamic-int8",
    }
    for row in board.rows:
        if row.rank is not None:
            assert 0 <= row.pareto_probability <= 1
    latency = measured_board(example_records(), cards=CARDS, axis="latency")
    assert {row.recipe for row in latency.rows if row.pareto} == {
        "baseline",
        "dynamic-int8",
        "kd-logits:layers=3",
        "kd-logits:layers=3 > dynamic-int8",
    }


def test_ranks_share_ties_with_their_leader():
    noise = replicates(0.0, 0.5, seed=4)
    drops = {"a": -0.1, "b": -0.4, "c": -5.0, "d": -5.3, "e": -9.0}
    records = [quality("baseline", "sst2", 90.0)]
    for number, (name, drop) in enumerate(drops.items()):
        extra = replicates(0.0, 0.3, seed=20 + number)
        values = [90 + drop + n + e for n, e in zip(replicates(0.0), extra, strict=True)]
        records.append(quality(name, "sst2", 90 + drop, resampled=values))
    assert noise
    board = measured_board(records)
    ranks = {row.recipe: (row.rank, row.tied) for row in board.rows}
    assert ranks["baseline"] == ranks["a"] == ranks["b"] == (1, True)
    assert ranks["c"] == ranks["d"] == (4, True)
    assert ranks["e"] == (6, False)
    assert [row.recipe for row in board.rows] == ["baseline", "a", "b", "c", "d", "e"]


def test_toy_and_real_tasks_never_share_a_board():
    records = [
        quality("baseline", "sst2", 90.0),
        quality("baseline", "toy-sentiment", 99.0),
        quality("magnitude", "sst2", 89.0),
        quality("magnitude", "toy-sentiment", 98.0),
    ]
    board = measured_board(records)
    assert board.tasks == ["sst2"]
    assert all(set(row.scores) == {"sst2"} for row in board.rows)
    assert any("Toy sentiment" in line for line in board.skipped)
    toys = [record for record in records if record.task == "toy-sentiment"]
    assert measured_board(toys).tasks == ["toy-sentiment"]
    assert measured_board(records, tasks=["toy-sentiment"]).tasks == ["toy-sentiment"]
    with pytest.raises(NotComparable, match="toy tasks and real ones"):
        measured_board(records, tasks=["sst2", "toy-sentiment"])
    with pytest.raises(SkylineError, match="did you mean 'sst2'"):
        measured_board(records, tasks=["sst1"])


def test_failed_cells_are_shown_with_their_reason():
    records = [quality("baseline", "sst2", 90.0), failed("magnitude", "sst2", reason="out of memory")]
    row = by_recipe(measured_board(records))["magnitude"]
    assert (row.drop, row.rank, row.pareto) == (None, None, False)
    assert [str(failure) for failure in row.failures] == ["SST-2, seed 0 failed: out of memory"]
    only = measured_board([failed("magnitude", "sst2")])
    assert [row.recipe for row in only.rows] == ["magnitude"]


def test_failed_toy_cells_stay_off_a_board_of_real_tasks():
    records = [quality(r, "sst2", 90.0) for r in ("baseline", "magnitude")]
    records += [failed(recipe, "toy-pairs") for recipe in ("magnitude", "kd-logits")]
    board = measured_board(records)
    assert [row.recipe for row in board.rows] == ["baseline", "magnitude"]
    assert all(not row.failures for row in board.rows)
    assert "kd-logits: no score on the tasks of this board" in board.skipped


def test_a_failed_profile_stands_on_its_row():
    records = [
        quality("baseline", "sst2", 90.0),
        quality("magnitude", "sst2", 89.0),
        failed("magnitude", None, kind="profile", status="oom", reason="no memory left"),
        failed("kd-logits", None, kind="profile", reason="no memory left"),
    ]
    board = measured_board(records)
    assert str(by_recipe(board)["magnitude"].failures[0]) == "profile seed 0 oom: no memory left"
    assert "kd-logits: no score on the tasks of this board" in board.skipped


def test_an_incomplete_row_is_neither_ranked_nor_on_the_front():
    records = example_records()
    board = measured_board(records, cards=CARDS)
    row = by_recipe(board)["kd-logits:layers=3 + magnitude:sparsity=0.6"]
    assert row.tasks == ["sst2"]
    assert row.drop == pytest.approx(86.9 - 91.0)
    assert (row.rank, row.complete, row.fronts) == (None, False, {})
    assert any("it lacks MRPC" in note for note in row.notes)
    narrowed = measured_board(records, tasks=["sst2"], cards=CARDS)
    assert all(row.rank is not None for row in narrowed.rows)


def test_tasks_that_few_rows_have_do_not_enter_the_average():
    records = []
    for number, recipe in enumerate(["baseline", "a", "b", "c"]):
        records += [quality(recipe, task, 90.0 - number) for task in ("sst2", "mrpc")]
    records += [quality(recipe, "cola", 50.0, metric="matthews_correlation") for recipe in ("baseline", "a")]
    board = measured_board(records)
    assert board.tasks == ["sst2", "mrpc", "cola"]
    assert board.compared == ["sst2", "mrpc"]
    assert by_recipe(board)["a"].tasks == ["sst2", "mrpc"]
    assert "cola" in by_recipe(board)["a"].scores
    assert any(note.startswith("CoLA is shown but not in the average") for note in board.notes)


def test_wnli_is_shown_but_not_averaged():
    records = [quality(r, t, s) for r, s in (("baseline", 90.0), ("a", 80.0)) for t in ("sst2", "wnli")]
    board = measured_board(records)
    assert board.compared == ["sst2"]
    assert any("by custom" in note for note in board.notes)


def test_without_a_baseline_there_is_no_drop_but_a_reason():
    board = measured_board([quality("magnitude", "sst2", 89.0)])
    row = board.rows[0]
    assert (row.drop, row.rank, row.pareto, row.size_pct) == (None, None, False, None)
    assert row.scores == {"sst2": 89.0}
    assert any("the baseline of this base model was not measured" in note for note in row.notes)


def test_other_data_than_the_baselines_is_not_compared():
    records = [quality("baseline", "sst2", 90.0), quality("magnitude", "sst2", 89.0, data="e" * 64)]
    row = by_recipe(measured_board(records))["magnitude"]
    assert row.drop is None
    assert any("other data than the baseline" in note for note in row.notes)


def test_one_board_shows_one_base_model():
    records = [quality("baseline", "sst2", 90.0), quality("a", "sst2", 89.0)]
    records += [quality("baseline", "sst2", 93.0, model="bert-base")]
    board = measured_board(records)
    assert board.model == "minilm-l6"
    assert board.skipped == ["1 records of base model bert-base: choose it to see them"]
    assert measured_board(records, "bert-base").rows[0].scores == {"sst2": 93.0}
    with pytest.raises(SkylineError, match="did you mean 'bert-base'"):
        measured_board(records, "bert-bass")
    with pytest.raises(SkylineError, match="skyline run"):
        measured_board([])


def test_seeds_that_the_baseline_lacks_do_not_enter_the_drop():
    records = [quality("baseline", "sst2", 90.0, seed) for seed in (0, 1)]
    records += [quality("a", "sst2", score, seed) for seed, score in enumerate((89.0, 88.0, 10.0))]
    row = by_recipe(measured_board(records))["a"]
    assert row.drop == pytest.approx(-1.5)
    assert row.scores["sst2"] == pytest.approx(187.0 / 3)
    assert any("seeds 0, 1" in note for note in row.notes)


def test_the_newest_record_of_a_cell_counts_and_the_others_are_told():
    records = [
        quality("baseline", "sst2", 90.0),
        quality("a", "sst2", 80.0, started="2030-01-02"),
        quality("a", "sst2", 70.0, started="2030-01-01"),
    ]
    board = measured_board(records)
    assert by_recipe(board)["a"].scores == {"sst2": 80.0}
    assert any("2 records of cell" in note for note in board.notes)


# --- costs


def test_profiles_join_by_artifact_and_others_are_told():
    base, own = facts("hash-b", 100_000_000), facts("hash-own", 50_000_000)
    records = [
        quality("baseline", "sst2", 90.0, artifact=base),
        quality("a", "sst2", 89.0, 0, artifact=own),
        quality("b", "sst2", 88.0, 0, artifact=facts("hash-b0", 40_000_000)),
        profile("a", artifact=own, speedup=2.0),
        profile("b", task="sst2", seed=7, artifact=facts("another", 41_000_000), speedup=3.0),
        profile("a", task="mrpc", seed=0, artifact=facts("third", 1), speedup=9.0),
    ]
    rows = by_recipe(measured_board(records))
    assert (rows["a"].speedup, rows["a"].disk_bytes) == (2.0, 50_000_000)
    assert not any("another artifact" in note for note in rows["a"].notes)
    assert (rows["b"].speedup, rows["b"].disk_bytes) == (3.0, 41_000_000)
    assert any("another artifact of the recipe (SST-2, seed 7)" in note for note in rows["b"].notes)
    assert any("no artifact of it was profiled" in note for note in rows["baseline"].notes)
    assert rows["baseline"].disk_bytes == 100_000_000


def test_only_one_condition_is_compared():
    records = [quality(r, "sst2", 90.0) for r in ("baseline", "a")]
    records += [profile(r, task="sst2", seed=0) for r in ("baseline", "a")]
    wide = Workload(batch=8, length=128)
    records.append(profile("a", task="sst2", seed=0, workload=wide, speedup=4.0))
    other = HARDWARE.model_copy(update={"id": "other"})
    records.append(profile("a", task="sst2", seed=0, hardware=other, speedup=5.0))
    board = measured_board(records)
    assert by_recipe(board)["a"].speedup == 1.0
    assert board.workload == Workload(batch=1, length=128)
    assert len(board.skipped) == 2
    assert by_recipe(measured_board(records, workload=(8, 128)))["a"].speedup == 4.0
    assert by_recipe(measured_board(records, hardware="other"))["a"].speedup == 5.0
    with pytest.raises(SkylineError, match="choose one of these: "):
        measured_board(records, device="cuda")


def test_a_simulated_cost_counts_as_no_less_than_the_baselines():
    records = [quality(r, "sst2", s) for r, s in (("baseline", 90.0), ("magnitude", 89.0), ("a", 88.0))]
    records += [
        profile("baseline", task="sst2", seed=0),
        profile(
            "magnitude",
            task="sst2",
            seed=0,
            flops=1_000_000_000,
            speedup=1.08,
            realised={"flops": False, "latency": False},
        ),
        profile("a", task="sst2", seed=0, flops=1_000_000_000, speedup=1.5),
    ]
    row = by_recipe(measured_board(records, cards=CARDS))["magnitude"]
    assert row.simulated == ["flops"]  # the card claims no latency
    assert row.costs["flops"] == 2_000_000_000
    assert row.costs["latency"] == 1.0
    assert (row.flops, row.speedup) == (1_000_000_000, 1.08)
    fronts = by_recipe(measured_board(records, cards=CARDS, axis="latency"))
    assert not fronts["magnitude"].pareto
    assert fronts["a"].pareto


def test_no_verdict_is_no_figure():
    records = [quality(r, "sst2", 90.0) for r in ("baseline", "a")]
    records += [profile("baseline", task="sst2", seed=0), profile("a", task="sst2", seed=0, speedup=None)]
    row = by_recipe(measured_board(records))["a"]
    assert row.speedup is None
    assert row.speedup_verdict == "none"
    assert "latency" not in row.costs
    assert any("no verdict" in note for note in row.notes)


def test_accelerator_memory_is_the_memory_on_an_accelerator():
    record = profile("baseline", task="sst2", seed=0, device="cuda")
    held = record.profile
    assert held is not None
    measured = held.total.model_copy(update={"accelerator_memory_bytes": 7})
    record = record.model_copy(update={"profile": held.model_copy(update={"total": measured})})
    row = measured_board([quality("baseline", "sst2", 90.0), record]).rows[0]
    assert row.peak_memory_bytes == 7


def test_hypervolume_by_hand():
    records = [quality(r, "sst2", s) for r, s in (("baseline", 90.0), ("dynamic-int8", 88.0))]
    records += [
        profile("baseline", task="sst2", seed=0, artifact=records[0].artifact),
        profile("dynamic-int8", task="sst2", seed=0, artifact=facts("x", 25_000_000), speedup=2.0),
    ]
    board = measured_board(records, cards=CARDS)
    assert board.hypervolume["disk"] == {"quantization": pytest.approx((10 - 2) * 0.75 / 10)}
    assert board.hypervolume["latency"] == {"quantization": pytest.approx(0.8 * 0.5)}
    assert "10 points below the baseline" in board.hypervolume_reference


# --- the architecture board


def test_architecture_board_measures_costs_and_claims_no_quality():
    claims = [{"task": "sst2", "value": 92.6, "where": "Table 9"}, {"task": "sst2", "value": 1.0}]
    cards = {**CARDS, "dynamic-int8": card("Dynamic int8", "quantization", ("disk",), claims)}
    base, small = facts("hash-base", 438_000_000), facts("hash-small", 113_000_000, kept=0.25)
    records = [
        profile("dynamic-int8", model="bert-base", artifact=small, speedup=2.1),
        profile("baseline", model="bert-base", artifact=base),
        profile("baseline", model="minilm-l6"),
        failed("kd-logits", None, kind="profile", model="bert-base", reason="killed"),
    ]
    board = architecture_board(records, cards=cards)
    assert [row.recipe for row in board.rows] == ["baseline", "dynamic-int8", "kd-logits"]
    row = board.rows[1]
    assert (row.scores, row.drop, row.pareto, row.fronts) == ({}, None, False, {})
    assert row.claimed == {"sst2": 92.6}
    assert "as published: SST-2 92.6 on a split that is not known (Table 9)" in row.notes
    assert row.size_pct == 25.0
    assert row.size_pct_without_embeddings == 25.0
    assert row.disk_pct == pytest.approx(100 * 113 / 438)
    assert board.rows[2].failures[0].reason == "killed"
    assert board.skipped == ["profiles on base model minilm-l6"]
    assert json.loads(board.to_json())["rows"][1].keys() >= KEYS


def test_architecture_board_leaves_scored_artifacts_to_the_measured_one():
    with pytest.raises(
        SkylineError, match=r"`skyline run SUITE.toml` does, with profile_model = 'minilm-l6'"
    ):
        architecture_board([r for r in example_records() if r.recipe != "x"], "minilm-l6")
    with pytest.raises(SkylineError, match="bert-base without training yet; `skyline run quickstart` does"):
        architecture_board([])
    with pytest.raises(SkylineError, match="--model shows what there is: bert-tiny, minilm-l6"):
        architecture_board([profile("baseline", model=name) for name in ("minilm-l6", "bert-tiny")])


# --- claims


def claim(value, task="sst2", **more):
    return {"task": task, "value": value, **more}


def claimed(recipe, model="bert-base", **cards):
    board = architecture_board([profile(recipe, model=model)], model, cards={**CARDS, **cards})
    return board.rows[0].claimed


def test_a_claim_is_shown_only_for_its_options_and_base_model():
    claims = [claim(91.7, options={"sparsity": 0.4}), claim(86.4, options={"sparsity": 0.8})]
    pruning = card("Pruning", "x", claims=claims, defaults={"sparsity": 0.4, "scope": "matrix"})
    assert claimed("pruning:sparsity=0.8", pruning=pruning) == {"sst2": 86.4}
    assert claimed("pruning:sparsity=0.80,scope=global", pruning=pruning) == {"sst2": 86.4}
    assert claimed("pruning", pruning=pruning) == {"sst2": 91.7}  # the default counts
    assert claimed("pruning:sparsity=0.6", pruning=pruning) == {}
    assert claimed("pruning:sparsity=0.8 > dynamic-int8", pruning=pruning) == {}
    assert claimed("pruning:sparsity=0.8", "bert-tiny", pruning=pruning) == {}
    tiny = card("Pruning", "x", claims=[claim(80.0, model="bert-tiny")])
    assert claimed("pruning:sparsity=0.6", "bert-tiny", pruning=tiny) == {"sst2": 80.0}
    assert claimed("pruning", "bert-base", pruning=tiny) == {}


def test_options_of_every_type_are_compared_by_value():
    wanted = {"layers": 6, "embeddings": True, "choose": "first"}
    method = card("M", "x", claims=[claim(90.0, options=wanted)], defaults={"embeddings": False})
    assert claimed("m:layers=6,embeddings=true,choose=first", m=method) == {"sst2": 90.0}
    assert claimed("m:layers=6,choose=first", m=method) == {}
    assert claimed("m:layers=7,embeddings=true,choose=first", m=method) == {}
    assert claimed("m:layers=6,embeddings=true,choose=last", m=method) == {}


def test_the_first_claim_of_a_task_that_holds_counts_and_says_where_it_stands():
    claims = [
        claim(1.0, options={"rank": 1}),
        claim(92.4, split="test", where="Table 1", sure=False),
        claim(2.0),
        claim(84.8, "mnli", split="dev", where="Table 2"),
    ]
    svd = card("SVD", "x", claims=claims, defaults={"rank": 128}, fidelity="variant")
    row = architecture_board([profile("svd", model="bert-base")], cards={"svd": svd}).rows[0]
    assert row.claimed == {"sst2": 92.4, "mnli": 84.8}
    variant = "; this method is a variant of the paper's"
    assert row.notes == [
        f"as published: SST-2 92.4 on test (Table 1, remembered of the paper, not read in it){variant}",
        f"as published: MNLI 84.8 on dev (Table 2){variant}",
    ]


@pytest.mark.parametrize(
    ("recipe", "scores"),
    [
        ("magnitude:sparsity=0.4", {"sst2": 91.7}),
        ("magnitude:sparsity=0.6", {"sst2": 90.6}),
        ("magnitude:sparsity=0.8", {"sst2": 86.4}),
        ("magnitude:sparsity=0.45", {}),
        ("random-pruning:sparsity=0.6,regime=pretraining", {"sst2": 81.5}),
        ("random-pruning:sparsity=0.6", {}),
        ("kd-logits:layers=1", {}),
        ("kd-logits:layers=6,choose=first", {"sst2": 90.8, "mnli": 80.8}),
    ],
)
def test_the_installed_cards_claim_what_their_papers_print(recipe, scores):
    board = architecture_board([profile(recipe, model="bert-base")], cards=installed_cards())
    found = {task: value for task, value in board.rows[0].claimed.items() if task in scores or not scores}
    assert found == scores


def test_gordons_claims_are_the_figures_of_the_published_table():
    table = {row.recipe: row.scores for row in published_board(table="gordon2020").rows}
    for method in ("magnitude", "random-pruning"):
        for claim in installed_cards()[method]["claims"]:
            scores = table[claim["where"].removeprefix("Table 1, ")]
            assert claim["value"] == scores[claim["task"]]
            assert claim["where"].endswith(f"{round(100 * claim['options']['sparsity'])} %")


def test_a_claim_by_another_metric_has_a_column_of_its_own():
    recipe = "magnitude:sparsity=0.6,regime=pretraining"
    board = architecture_board([profile(recipe, model="bert-base")], cards=installed_cards())
    assert "cola" not in board.rows[0].claimed
    assert board.rows[0].claimed["cola-accuracy"] > 60


def test_every_installed_claim_names_options_and_values_of_its_method():
    found = discover().methods
    for identity, card_ in installed_cards().items():
        for claim in card_["claims"]:
            text = ",".join(f"{name}={str(v).lower()}" for name, v in claim["options"].items())
            Recipe.parse(f"{identity}:{text}" if text else identity)
            assert set(claim["options"]) <= {f.name for f in fields(found[identity].method.Options)}


# --- names


def test_recipes_are_read_as_written():
    parts = recipe_parts("kd-logits:layers=3,weight=1e+5 + magnitude > dynamic-int8")
    assert [(p.method, p.options, p.joint) for p in parts] == [
        ("kd-logits", "layers=3,weight=1e+5", ""),
        ("magnitude", "", "+"),
        ("dynamic-int8", "", ">"),
    ]
    assert recipe_title("baseline", {}) == "Baseline"
    assert recipe_title("new:a=1,b=2", {}) == "new (a=1, b=2)"
    assert recipe_family("baseline", {}) == "baseline"
    assert recipe_family("magnitude:sparsity=0.4", CARDS) == "unstructured-pruning"
    assert recipe_family("unknown", CARDS) == "other"
    assert claimed_costs("kd-logits > magnitude", CARDS) == {
        *("disk", "flops", "latency", "memory", "parameters")
    }
