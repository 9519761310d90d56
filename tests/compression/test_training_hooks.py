"""What methods see and change in training, in which order, and what they cannot reach."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.compression.context import Context, Step
from harness.compression.training import train
from harness.conformance.tiny import tiny_encoder
from harness.models.encoder.encoder import Encoder
from harness.recipes.builder import run_stage
from harness.recipes.recipe import RecipeStage
from harness.tasks import Task, load_task
from tests.support.tiny_stages import context
from tests.support.training_probes import Probe, probe


def test_the_hooks_in_order() -> None:
    log: list[tuple[str, str, float]] = []
    stage = RecipeStage((probe(name="one", log=log), probe(name="two", log=log)))
    run_stage(stage, tiny_encoder(), context())
    thirds = [(n / 3, (n + 1) / 3) for n in range(3)]
    wanted = [("one", "prepare", -1.0), ("two", "prepare", -1.0)]
    for before, after in thirds:
        wanted += [
            ("one", "loss", before),
            ("two", "loss", before),
            ("one", "step", after),
            ("two", "step", after),
        ]
    wanted += [("one", "finish", -1.0), ("two", "finish", -1.0)]
    assert [entry[:2] for entry in log] == [entry[:2] for entry in wanted]
    assert [entry[2] for entry in log] == pytest.approx([entry[2] for entry in wanted])


def test_without_training_only_prepare_and_finish_run() -> None:
    log: list[tuple[str, str, float]] = []
    _, done = run_stage(RecipeStage((probe(log=log),)), tiny_encoder(), context(shapes_only=True))
    assert [hook for _, hook, _ in log] == ["prepare", "finish"]
    assert done == []


def test_finish_may_return_another_encoder() -> None:
    other = tiny_encoder(9)

    class Returns(Probe):
        def finish(self, student: Encoder, context: Context) -> Encoder:
            assert not student.training
            assert not torch.is_grad_enabled()
            return other

    seen: list[Encoder] = []

    class Sees(Probe):
        def finish(self, student: Encoder, context: Context) -> None:
            seen.append(student)

    student, _ = run_stage(RecipeStage((probe(Returns), probe(Sees))), tiny_encoder(), context())
    assert student is other
    assert seen == [other]


def test_a_loss_adds_to_the_task_loss_unless_it_replaces_it() -> None:
    class Adds(Probe):
        def loss(self, step: Step) -> Tensor:
            return step.output.logits.sum() * 0 + 7

    class Replaces(Adds):
        replaces_task_loss = True

    budget: dict[str, Any] = {"epochs": 0.01}
    plain = train(tiny_encoder(), [], context(**budget), "").final_loss
    assert train(tiny_encoder(), [probe(Adds).make()], context(**budget), "").final_loss == pytest.approx(
        plain + 7
    )
    assert train(tiny_encoder(), [probe(Replaces).make()], context(**budget), "").final_loss == pytest.approx(
        7
    )
    both = [probe(Adds).make(), probe(Replaces).make()]
    assert train(tiny_encoder(), both, context(**budget), "").final_loss == pytest.approx(14)


def test_a_step_shows_what_the_method_needs() -> None:
    seen: list[Step] = []

    class Needs(Probe):
        needs = frozenset({"teacher_logits", "hidden_states", "attentions"})

        def loss(self, step: Step) -> None:
            seen.append(step)

    given = context()
    train(tiny_encoder(), [probe(Needs).make()], given, "")
    for step in seen:
        assert step.output.hidden_states is not None
        assert step.output.attentions is not None
        assert len(step.output.hidden_states) == 5
        assert len(step.output.attentions) == 4
        with torch.inference_mode():
            wanted = given.teacher(step.batch).logits
        assert torch.allclose(step.teacher_logits, wanted, atol=1e-5)
        assert step.kind == "classification"
        labels = [given.training_examples()[row].label for row in step.rows]
        assert step.targets.tolist() == labels
    assert sorted(row for step in seen for row in step.rows) == list(range(48))

    class NeedsNothing(Needs):
        needs = frozenset()

    seen.clear()
    train(tiny_encoder(), [probe(NeedsNothing).make()], context(), "")
    assert {(step.output.hidden_states, step.output.attentions) for step in seen} == {(None, None)}


def test_no_path_leads_from_the_task_to_the_dev_split() -> None:
    """Whatever the view refers to, however far: classes and modules aside, which refer to everything."""
    whole = load_task("toy-sentiment")
    dev = {example.text for example in whole.dev()}
    given = context()
    found, seen, texts = [given.task], set[int](), set[str]()
    while found:
        thing = found.pop()
        if id(thing) in seen or isinstance(thing, type):
            continue
        seen.add(id(thing))
        assert not isinstance(thing, Task)
        assert not callable(thing)
        if isinstance(thing, str):
            texts.add(thing)
        found += gc.get_referents(thing)
    assert len(texts & {example.text for example in whole.train()}) == 8000
    assert not texts & dev
