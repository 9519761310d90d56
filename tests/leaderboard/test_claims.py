"""What papers claim, on the architecture board: for which options and base model, and in which words."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from harness.recipes.discovery import discover
from harness.recipes.recipe import Recipe
from leaderboard.boards.architecture import architecture_board
from leaderboard.boards.claims import installed_cards, obstacles
from leaderboard.published_tables.reading import StudentRow, read_table
from tests.support.board_records import CARDS, card, profile, published_board, rows_of


def claim(value: float, task: str = "sst2", **more: Any) -> dict[str, Any]:
    return {"task": task, "value": value, **more}


def claimed(recipe: str, model: str = "bert-base", **cards: Any) -> dict[str, float]:
    board = architecture_board([profile(recipe, model=model)], model, cards={**CARDS, **cards})
    return board.rows[0].claimed


def test_a_claim_is_shown_only_for_its_options_and_base_model() -> None:
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


def test_options_of_every_type_are_compared_by_value() -> None:
    wanted = {"layers": 6, "embeddings": True, "choose": "first"}
    method = card("M", "x", claims=[claim(90.0, options=wanted)], defaults={"embeddings": False})
    assert claimed("m:layers=6,embeddings=true,choose=first", m=method) == {"sst2": 90.0}
    assert claimed("m:layers=6,choose=first", m=method) == {}
    assert claimed("m:layers=7,embeddings=true,choose=first", m=method) == {}
    assert claimed("m:layers=6,embeddings=true,choose=last", m=method) == {}


def test_the_first_claim_of_a_task_that_holds_counts_and_says_where_it_stands() -> None:
    claims = [
        claim(1.0, options={"rank": 1}),
        claim(92.4, split="test", where="Table 1", sure=False),
        claim(2.0),
        claim(84.8, "mnli", split="dev", where="Table 2"),
    ]
    svd = card("SVD", "x", claims=claims, defaults={"rank": 128}, fidelity="variant")
    row = architecture_board([profile("svd", model="bert-base")], cards={"svd": svd}).rows[0]
    assert row.claimed == {"sst2": 92.4, "mnli": 84.8}
    variant = "this method is a variant of the paper's"
    assert row.notes == (
        f"as published: SST-2 92.4 on test (Table 1, remembered, not read in the paper); not comparable: {variant}",
        f"as published: MNLI 84.8 on dev (Table 2); not comparable: {variant}",
    )


def test_a_claim_with_conditions_is_not_comparable_and_comes_last() -> None:
    taught = claim(92.0, split="dev", conditions="with a larger teacher")
    plain = claim(90.0, split="dev")
    assert obstacles(plain, card("M", "x", fidelity="faithful")) == []
    assert obstacles(taught, card("M", "x", fidelity="faithful")) == ["published with a larger teacher"]
    assert claimed("m", m=card("M", "x", claims=[taught, plain])) == {"sst2": 90.0}
    row = architecture_board(
        [profile("m", model="bert-base")], cards={"m": card("M", "x", claims=[taught])}
    ).rows[0]
    assert row.claimed == {"sst2": 92.0}
    assert row.notes[0].endswith("not comparable: published with a larger teacher")


@pytest.mark.parametrize(
    ("recipe", "scores"),
    [
        ("magnitude:sparsity=0.4,embeddings=true", {"sst2": 91.7}),
        ("magnitude:sparsity=0.6,embeddings=true", {"sst2": 90.6}),
        ("magnitude:sparsity=0.8,embeddings=true", {"sst2": 86.4}),
        ("magnitude:sparsity=0.45,embeddings=true", {}),
        # The paper prunes the word embeddings too.
        ("magnitude:sparsity=0.4", {}),
        ("random-pruning:sparsity=0.6,regime=pretraining,embeddings=true", {"sst2": 81.5}),
        ("random-pruning:sparsity=0.6", {}),
        ("kd-logits:layers=1", {}),
        ("kd-logits:layers=6,choose=first", {"sst2": 90.8, "mnli": 80.8}),
        ("movement:sparsity=0.97", {"mnli": 76.5, "qqp": 86.1}),
        ("movement:sparsity=0.97,score_learning_rate=0.1", {}),
        ("soft-movement", {"mnli": 81.2, "qqp": 90.2}),
        ("soft-movement:start=fine-tuned", {}),
        ("theseus:layers=6,base=0.3", {"mnli": 82.1, "qqp": 88.8, "sst2": 91.8}),
        ("theseus:layers=6,base=0.5", {}),
        ("power-bert:penalty=2e-4,rate=5e-4", {"sst2": 92.1}),
        ("power-bert", {}),
    ],
)
def test_the_installed_cards_claim_what_their_papers_print(recipe: str, scores: dict[str, float]) -> None:
    board = architecture_board([profile(recipe, model="bert-base")], cards=installed_cards())
    found = {task: value for task, value in board.rows[0].claimed.items() if task in scores or not scores}
    assert found == scores


def test_gordons_claims_are_the_figures_of_the_published_table() -> None:
    table = {row.recipe: row.scores for row in rows_of(published_board("gordon2020"))}
    for method in ("magnitude", "random-pruning"):
        for claim in installed_cards()[method]["claims"]:
            scores = table[claim["where"].removeprefix("Table 1, ")]
            assert claim["value"] == scores[claim["task"]]
            assert claim["where"].endswith(f"{round(100 * claim['options']['sparsity'])} %")


@pytest.mark.parametrize("student", ["bilstm", "rnn", "ffn"])
def test_the_students_claims_are_the_figures_of_the_published_table(student: str) -> None:
    claims = {
        tuple(c["options"][name] for name in ("embedding", "dimension", "vocabulary", "alpha", "augment")): c
        for c in installed_cards()[student]["claims"]
    }
    rows = [row for row in read_table(StudentRow)[0] if row.student.lower() == student]
    assert len(claims) == 4 * len(rows)
    for row in rows:
        embedding, _, vocabulary = row.embedding.lower().partition("-")
        for alpha, augment, score in (
            (1.0, 0, row.no_distill),
            (1.0, 20, row.no_distill_boot),
            (0.5, 20, row.alpha05_boot),
            (0.0, 20, row.alpha0_boot),
        ):
            found = claims[embedding, row.dim, int(vocabulary or 0), alpha, augment]
            assert found["value"] == float(score)
            assert found["sure"]
            assert ("RoBERTa-large" in found["conditions"]) == (augment > 0)


@pytest.mark.parametrize("method", ["movement", "soft-movement", "magnitude", "random-pruning"])
def test_claims_from_longer_or_taught_trainings_have_conditions(method: str) -> None:
    assert all(claim["conditions"] for claim in installed_cards()[method]["claims"])


def test_a_claim_by_another_metric_has_a_column_of_its_own() -> None:
    recipe = "magnitude:sparsity=0.6,regime=pretraining,embeddings=true"
    board = architecture_board([profile(recipe, model="bert-base")], cards=installed_cards())
    assert "cola" not in board.rows[0].claimed
    assert board.rows[0].claimed["cola-accuracy"] > 60


def test_every_installed_claim_names_options_and_values_of_its_method() -> None:
    found = discover().methods
    for identity, card_ in installed_cards().items():
        for claim in card_["claims"]:
            text = ",".join(f"{name}={str(v).lower()}" for name, v in claim["options"].items())
            Recipe.parse(f"{identity}:{text}" if text else identity)
            assert set(claim["options"]) <= {f.name for f in fields(found[identity].method.Options)}
