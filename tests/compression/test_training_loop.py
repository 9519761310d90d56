"""The training loop: one seed gives one result, it learns, and what stops it."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.common.errors import Code
from harness.compression.context import Context, Step
from harness.compression.task_loss import task_loss
from harness.compression.training import train
from harness.conformance.tiny import BUDGET, tiny_encoder, tiny_task
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import context
from tests.support.training_probes import Probe, probe, same, state


def trained(**more: Any) -> list[Tensor]:
    model = tiny_encoder()
    train(model, [], context(**more), "baseline")
    return state(model)


def test_one_seed_gives_one_result_whatever_the_global_generator() -> None:
    torch.manual_seed(1)
    one = trained(seed=3)
    torch.manual_seed(2)
    assert same(one, trained(seed=3))
    assert not same(one, trained(seed=4))


def test_the_global_generator_is_as_it_was() -> None:
    model, given = tiny_encoder(), context()
    before = torch.get_rng_state()
    train(model, [], given, "baseline")
    assert torch.equal(torch.get_rng_state(), before)


def test_generators_of_different_purposes_differ() -> None:
    purposes = ["order", "dropout", "subset", "random-pruning"]
    drawn = {p: torch.rand(8, generator=context(seed=5).generator(p)) for p in purposes}
    assert all(not torch.equal(drawn[a], drawn[b]) for a, b in itertools.combinations(purposes, 2))
    for purpose in purposes:
        assert torch.equal(drawn[purpose], torch.rand(8, generator=context(seed=5).generator(purpose)))
        assert not torch.equal(drawn[purpose], torch.rand(8, generator=context(seed=6).generator(purpose)))


def test_generators_of_purposes_that_begin_alike_differ() -> None:
    purposes = ["random-pruning", "random-projection", "random"]
    drawn = [torch.rand(8, generator=context().generator(purpose)) for purpose in purposes]
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(drawn, 2))


def test_bfloat16_where_asked_for() -> None:
    model = tiny_encoder()
    done = train(model, [], context(precision="bfloat16"), "a stage")
    assert done.precision == "bfloat16"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not same(state(model), trained())


def test_it_learns() -> None:
    model = tiny_encoder()
    first = train(tiny_encoder(), [], context(), "one epoch").final_loss
    assert train(model, [], context(epochs=20, learning_rate=3e-3), "twenty").final_loss < first
    assert not model.training


@pytest.mark.parametrize(
    ("kind", "logits", "targets", "wanted"),
    [
        ("classification", [[0.0, 0.0], [math.log(3), 0.0]], [0, 0], (math.log(2) + math.log(4 / 3)) / 2),
        ("regression", [[1.0], [4.0]], [3.0, 3.0], (4 + 1) / 2),
        ("span", [[[0.0, 0.0], [0.0, math.log(3)]]], [[0, 1]], (math.log(2) + math.log(4 / 3)) / 2),
    ],
)
def test_the_task_losses_by_hand(kind: Any, logits: Any, targets: Any, wanted: float) -> None:
    assert task_loss(kind, torch.tensor(logits), torch.tensor(targets)).item() == pytest.approx(wanted)


def test_a_loss_that_is_no_number() -> None:
    class Broken(Probe):
        def loss(self, step: Step) -> Tensor:
            return step.task_loss * (math.inf if step.progress > 0.5 else 1)

    with refused(Code.NOT_FINITE, "inf", "step 3", "'mine'", "toy-sentiment", "--precision"):
        train(tiny_encoder(), [probe(Broken).make()], context(), "mine")


def test_no_training_examples() -> None:
    view = tiny_task().training_view()
    empty = type(view)(view.name, view.kind, view.labels, view.metrics, view.metric, view.max_length, ())
    with refused(Code.NO_DATA, "the training set of toy-sentiment"):
        train(tiny_encoder(), [], Context(tiny_encoder(), empty, BUDGET), "baseline")
