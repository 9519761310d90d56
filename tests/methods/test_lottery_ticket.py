"""lottery-ticket: which weights each round drops, and that what is kept goes back to where it began."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.compression import training
from harness.compression.context import Context
from harness.compression.method import Method
from harness.conformance.tiny import CONFIG, tiny_encoder
from harness.models.encoder.encoder import Encoder
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import context, method_of
from tests.support.tuned_stages import PRETRAINED, TUNED, run, smallest, tuned_context

POOLER = "head.pooler.weight"


def prunable(model: Encoder) -> list[str]:
    return [*model.matrix_names(), POOLER]


def flat(model: Encoder) -> np.ndarray:
    weights = dict(model.named_parameters())
    return np.concatenate([weights[name].detach().numpy().ravel() for name in prunable(model)])


def test_without_training_the_smallest_of_all_pre_trained_weights_go() -> None:
    student, _ = run("lottery-ticket:sparsity=0.6,rounds=3", shapes_only=True)
    start = flat(tiny_encoder(PRETRAINED))
    gone = smallest(np.abs(start), round(0.6 * start.size))
    assert np.array_equal(flat(student), np.where(gone, 0, start))


@pytest.mark.parametrize("rounds", [1, 3])
def test_the_ticket_has_the_pre_trained_values_where_it_keeps(rounds: int) -> None:
    student, given = tiny_encoder(TUNED), tuned_context(epochs=2 * (rounds + 1))
    method = method_of(f"lottery-ticket:sparsity=0.6,rounds={rounds}")
    method.prepare(student, given)
    start = dict(tiny_encoder(PRETRAINED).named_parameters())
    dropped = 0
    for name, weight in student.named_parameters():
        if name in prunable(student):
            kept = weight != 0
            assert torch.equal(weight[kept], start[name][kept])
            dropped += int((~kept).sum())
        else:
            assert torch.equal(weight, start[name]), name
    assert dropped == round(0.6 * flat(student).size)
    one_shot, _ = run("lottery-ticket:sparsity=0.6", shapes_only=True)
    different = ((flat(student) == 0) != (flat(one_shot) == 0)).mean()
    assert different > 0, "the training decides"
    assert given.figures == {"differs_from_one_shot": pytest.approx(different)}
    # Each begins with an optimizer and a schedule of its own.
    assert [(t.stage, t.steps) for t in given.trained] == [
        (f"lottery-ticket round {n} of {rounds}", 6) for n in range(1, rounds + 1)
    ]


def test_the_rounds_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training is replaced by factors that are known, so that what each round must drop is known too."""
    rng = np.random.default_rng(0)
    start = flat(tiny_encoder(PRETRAINED))
    factors = [rng.uniform(0, 2, start.size).astype(np.float32) for _ in range(3)]
    seen: list[np.ndarray] = []

    def train(student: Encoder, methods: list[Method], context: Context, stage: str, **budget: Any) -> None:
        seen.append(flat(student))
        parts, place = dict(student.named_parameters()), 0
        for name in prunable(student):
            weight: Tensor = parts[name].data
            own = factors[len(seen) - 1][place : place + weight.numel()]
            weight.mul_(torch.from_numpy(own).view_as(weight))
            place += weight.numel()

    monkeypatch.setattr(training, "train_round", train)
    student = tiny_encoder(TUNED)
    method_of("lottery-ticket:sparsity=0.6,rounds=3").prepare(student, tuned_context())
    gone = np.zeros(start.size, dtype=bool)
    for done, factor in enumerate(factors, start=1):
        assert np.array_equal(seen[done - 1], np.where(gone, 0, start)), "rewound, and masked"
        sizes = np.where(gone, -1.0, np.abs(start * factor))
        after = smallest(sizes, round(0.2 * done * start.size))
        assert (after | ~gone).all(), "what is gone stays so"
        gone = after
    assert np.array_equal(flat(student), np.where(gone, 0, start))


def test_a_weight_that_training_made_zero_does_not_save_one_that_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def train(student: Encoder, methods: list[Method], context: Context, stage: str, **budget: Any) -> None:
        if stage.endswith("2 of 2"):
            student.layers[0].ffn.into.weight.data.zero_()

    monkeypatch.setattr(training, "train_round", train)
    student = tiny_encoder(TUNED)
    method_of("lottery-ticket:sparsity=0.4,rounds=2").prepare(student, tuned_context())
    start = flat(tiny_encoder(PRETRAINED))
    first = smallest(np.abs(start), round(0.2 * start.size))
    gone = flat(student) == 0
    assert (gone | ~first).all()
    assert int(gone.sum()) == round(0.4 * start.size)
    assert not student.layers[0].ffn.into.weight.any(), "then the zeros go, before anything else"


def test_the_mask_holds_in_rounds_and_in_the_last_training(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    given = Recipe.parse("lottery-ticket").calls[0].method.step

    def step(this: Any, student: Encoder, progress: float) -> None:
        given(this, student, progress)
        seen.append(flat(student) == 0)

    monkeypatch.setattr(Recipe.parse("lottery-ticket").calls[0].method, "step", step)
    student, training = run("lottery-ticket:sparsity=0.5,rounds=2", tuned_context(epochs=3))
    assert [entry.steps for entry in training] == [3, 3, 3]
    total = seen[0].size
    assert [int(gone.sum()) for gone in seen] == [0] * 3 + [round(0.25 * total)] * 3 + [
        round(0.5 * total)
    ] * 3
    for earlier, later in itertools.pairwise(seen):
        assert (later | ~earlier).all()
    assert np.array_equal(flat(student) == 0, seen[-1])
    start = flat(tiny_encoder(PRETRAINED))
    assert not np.array_equal(flat(student)[~seen[-1]], start[~seen[-1]]), "the others are trained"
    codecs = {name: str(codec) for name, codec in student.storage.codecs.items()}
    assert codecs == dict.fromkeys(prunable(student), "bitmask")
    assert set(training[-1].figures) == {"differs_from_one_shot"}
    assert [entry.figures for entry in training[:2]] == [{}, {}]


def test_patience_ends_no_round() -> None:
    given = tuned_context(patience=1, epochs=5)
    _, training = run("lottery-ticket:sparsity=0.5,rounds=2,rounds_share=0.8", given)
    assert [entry.steps for entry in training[:2]] == [6, 6]


def test_an_encoder_without_a_pooler() -> None:
    config = CONFIG.model_copy(update={"pooler": False})
    model = Encoder(config, tiny_encoder().tokenizer).initialize(torch.Generator().manual_seed(0)).eval()
    given = context(model)
    (stage,) = Recipe.parse("lottery-ticket:sparsity=0.5,rounds=2").stages
    student, _ = run_stage(stage, model, given)
    gone = sum(int((student.get_parameter(name) == 0).sum()) for name in student.matrix_names())
    assert gone == round(0.5 * sum(student.get_parameter(name).numel() for name in student.matrix_names()))


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        ("kd-logits:layers=4 > lottery-ticket", "weights"),
        ("kd-logits:layers=2 + lottery-ticket", "shape"),
        ("lottery-ticket:rounds=1 > lottery-ticket", "weights"),
    ],
)
def test_another_method_s_work_is_not_thrown_away(recipe: str, why: str) -> None:
    with refused("^lottery-ticket ", f"changed the encoder's {why}"):
        run(recipe)
