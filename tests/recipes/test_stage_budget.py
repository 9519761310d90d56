"""The trainings of a stage share its epochs: what each gets, what is refused, and the examples that all have seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.common.errors import Code
from harness.compression.context import Context, OwnRounds
from harness.compression.method import Method
from harness.compression.training import train, train_round
from harness.conformance.tiny import tiny_encoder
from harness.recipes.builder import run_stage
from harness.recipes.discovery import discover
from harness.recipes.recipe import Recipe, RecipeStage
from harness.records.schema import Training
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import context
from tests.support.training_probes import Probe, probe

IN_ROUNDS = (
    "lottery-ticket:rounds=3",
    "tinybert:layers=2",
    "minilm:layers=2",
    "adabert:cells=1,channels=8,dimension=8,classifier=8",
    "mobilebert:ffn_count=1",
    "dynabert:batches=1,widths=0.5/1,depths=1",
    "identity-prior:batches=1",
    "schubert:rounds=2",
    "quant-noise:entries=16",
    "power-bert",
    "magnitude:regime=pretraining",
    "random-pruning:regime=information-deletion",
)
"""Methods that train more than once in their stage."""


def rounds(*shares: float, declared: float, in_finish: bool = False, **budget: Any) -> type[Method]:
    """A method that declares `declared` and trains rounds of `shares`."""

    class Rounds(Probe):
        own_share = declared

        def _train(self, student: Any, context: Context) -> None:
            for number, share in enumerate(shares):
                train_round(student, [], context, f"round {number}", share=share, **budget)

        def prepare(self, student: Any, context: Context) -> None:
            if not in_finish:
                self._train(student, context)

        def finish(self, student: Any, context: Context) -> None:
            if in_finish:
                with torch.enable_grad():
                    self._train(student, context)

    return Rounds


def trained(*methods: type[Method], **budget: Any) -> list[Training]:
    return run_stage(RecipeStage(tuple(map(probe, methods))), tiny_encoder(), context(**budget))[1]


def test_the_stage_s_training_gets_what_the_rounds_leave() -> None:
    done = trained(rounds(0.25, 0.25, declared=0.5), rounds(0.125, declared=0.125), epochs=8)
    assert [(each.stage, each.epochs) for each in done] == [
        ("round 0", 2.0),
        ("round 1", 2.0),
        ("round 0", 1.0),
        ("probe + probe", 3.0),
    ]
    # 48 examples in batches of 16.
    assert [each.seen for each in done] == [96, 96, 48, 144]
    assert [each.epochs for each in trained(Probe, epochs=8)] == [8.0]


@given(
    size=st.integers(1, 48),
    batch=st.integers(1, 20),
    epochs=st.floats(0.01, 3),
    share=st.floats(0.01, 0.99),
)
@settings(max_examples=15, deadline=None)
def test_rounding_is_never_refused(size: int, batch: int, epochs: float, share: float) -> None:
    done = trained(rounds(share, declared=share), epochs=epochs, examples=size, batch_size=batch)
    steps = math.ceil(size / batch)
    for each, part in zip(done, (share, 1 - share), strict=True):
        assert abs(each.steps - steps * epochs * part) <= 1
        assert each.seen <= min(each.steps * batch, math.ceil(each.steps / steps) * size)


def test_examples_seen_count_a_short_batch_as_it_is() -> None:
    (done,) = trained(Probe, epochs=2, examples=33, batch_size=16)
    assert (done.steps, done.seen) == (6, 66)


@pytest.mark.parametrize("in_finish", [False, True])
def test_a_round_beyond_the_declared_share_is_refused(in_finish: bool) -> None:
    with refused(Code.CONFLICT, "'round 1'", "0.75", "own_share is 0.5"):
        trained(rounds(0.25, 0.5, declared=0.5, in_finish=in_finish))
    # What another method declares is not for this one.
    with refused(Code.CONFLICT, "'round 0'", "own_share is 0.25"):
        trained(rounds(declared=0.5), rounds(0.5, declared=0.25, in_finish=in_finish))


def test_equal_shares_add_up_to_what_is_declared() -> None:
    for count in range(1, 60):
        own = OwnRounds(count / (count + 1))
        for _ in range(count):
            own.take(count / (count + 1) / count, "round")
        with refused(Code.CONFLICT, "'one more'"):
            own.take(1e-3, "one more")


def test_no_round_sets_its_epochs() -> None:
    with refused(Code.CONFLICT, "'round 0'", "share"):
        trained(rounds(0.5, declared=0.5, epochs=3))


def test_more_examples_than_the_budget_s_are_refused() -> None:
    with refused(Code.CONFLICT, "'probe'", "1 epochs of 16 "):
        trained(rounds(0.5, declared=0.5, examples=400), examples=16)

    class Direct(Probe):
        """Trains without `train_round`, and says what it did."""

        def prepare(self, student: Any, context: Context) -> None:
            context.trained.append(train(student, [], context, "direct"))

    with refused(Code.CONFLICT, "saw 800 examples"):
        trained(Direct, examples=400)


@pytest.mark.parametrize("shares", [(1.0,), (0.5, 0.5), (0.25, 1.5)])
def test_shares_that_leave_no_training_are_refused(shares: tuple[float, ...]) -> None:
    stage = RecipeStage(tuple(probe(rounds(declared=share)) for share in shares))
    with refused(Code.CONFLICT, f"{shares[-1]:g}"):
        run_stage(stage, tiny_encoder(), context())


def test_a_recipe_says_so_before_anything_is_trained() -> None:
    with refused(Code.CONFLICT, "'schubert' (1)"):
        Recipe.parse("schubert:factor_share=0.5,rounds_share=0.5")
    Recipe.parse("schubert:factor_share=0.5,rounds_share=0.5,rounds=1")


@pytest.mark.parametrize("recipe", IN_ROUNDS)
def test_every_method_sees_the_budget_s_examples(recipe: str) -> None:
    """24 epochs of two steps, which every default share divides nearly into whole steps."""
    teacher = tiny_encoder().eval()
    (stage,) = Recipe.parse(recipe).stages
    done = run_stage(stage, teacher, context(teacher, epochs=24, examples=16, batch_size=8))[1]
    assert len(done) > 1
    assert abs(sum(each.seen for each in done) - 24 * 16) <= 8 * len(done) / 2
    assert {each.precision for each in done} == {"float32"}


def test_only_methods_with_rounds_declare_a_share() -> None:
    """Every method at its default, so that one with rounds cannot be forgotten above."""
    declaring = {name for name in discover().methods if _share(name) > 0}
    tested: Mapping[str, float] = {r.partition(":")[0]: 1 for r in IN_ROUNDS}
    assert declaring <= set(tested)


def _share(name: str) -> float:
    return float(Recipe.parse(name).calls[0].make().own_share)
