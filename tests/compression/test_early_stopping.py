"""Early stopping: which epoch is kept, when it stops, and what it looks at."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor

from harness.compression import training
from harness.compression.context import Step
from harness.compression.training import train
from harness.conformance.tiny import tiny_encoder
from harness.models.encoder.encoder import Encoder
from harness.recipes.recipe import Recipe
from tests.support.tiny_stages import context
from tests.support.training_probes import Probe, probe, same, state


def body(model: Encoder) -> list[Tensor]:
    """The weights without the head's: those read standardised vectors until the training ends."""
    return [*state(model.embedding), *state(model.layers)]


class Judged:
    """Training whose held-out scores are given, with the weights at each epoch's end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, scores: list[float], patience: int) -> None:
        self.model, self.states, self.held = tiny_encoder(), list[list[Tensor]](), set[int]()
        wanted = iter(scores)

        def score(task: Any, predictions: Any, examples: Any) -> dict[str, float]:
            self.states.append(body(self.model))
            self.held.add(len(examples))
            return {"accuracy": next(wanted)}

        monkeypatch.setattr(training, "score", score)
        monkeypatch.setattr(training, "predict", lambda *_: [])
        budget: dict[str, Any] = {"epochs": float(len(scores)), "patience": patience, "holdout": 0.25}
        self.training = train(self.model, [], context(**budget), "judged")


def test_early_stopping_keeps_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = Judged(monkeypatch, [60, 70, 65, 69, 68, 66, 62, 61], patience=2)
    assert 4 <= len(judged.states) < 8
    assert same(body(judged.model), judged.states[1])
    assert not same(body(judged.model), judged.states[2])
    assert judged.held == {12}, "a quarter of 48 examples"
    assert judged.training.examples == 36


def test_early_stopping_stops_after_so_many_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(Judged(monkeypatch, [60, 70, 65, 69, 68, 66, 62, 61], patience=2).states) == 4


def test_early_stopping_goes_on_while_it_gets_better(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = Judged(monkeypatch, [60, 60, 61, 61, 62, 62], patience=2)
    assert len(judged.states) == 6
    assert same(body(judged.model), judged.states[4]), "the first of equals"


def test_early_stopping_looks_at_no_epoch_before_the_ramp_s_end() -> None:
    """A best epoch that is less pruned than it will be would be pruned in one shot afterwards."""
    masks: list[float] = []
    (stage,) = Recipe.parse("magnitude:sparsity=0.9,begin=0,end=0.75").stages
    method = stage.calls[0].make()
    step = method.step

    def watch(student: Encoder, progress: float) -> None:
        step(student, progress)
        masks.append(method.masks.sparsity())

    method.step = watch  # type: ignore[method-assign]
    model = tiny_encoder()
    made = context(epochs=4.0, patience=1, holdout=0.25)
    method.prepare(model, made)
    done = train(model, [method], made, "magnitude")
    assert done.epochs >= 3, "it may not stop while the ramp goes up"
    assert masks[0] < 0.9
    zeros = [float((w == 0).float().mean()) for w in method.masks.weights.values()]
    assert all(share == pytest.approx(0.9, abs=0.01) for share in zeros)


def test_the_held_out_slice_takes_no_part_in_training() -> None:
    seen: set[int] = set()

    class Rows(Probe):
        def loss(self, step: Step) -> None:
            seen.update(step.rows)

    budget: dict[str, Any] = {"patience": 1, "holdout": 0.25, "epochs": 1.0}
    done = train(tiny_encoder(), [probe(Rows).make()], context(**budget), "judged")
    assert seen == set(range(36))
    assert done.examples == 36
