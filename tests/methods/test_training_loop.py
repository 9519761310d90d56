"""The training loop: determinism, schedule, early stopping, what hooks see, and what they cannot reach."""

from __future__ import annotations

import gc
import itertools
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_linear_schedule_with_warmup

from harness import training
from harness.build import check_budget, run_stage
from harness.cells import BudgetSpec
from harness.conformance.tiny import BUDGET, tiny_encoder, tiny_task
from harness.discovery import discover
from harness.encoder import Encoder
from harness.errors import SkylineError
from harness.method import Method, options
from harness.recipe import Call, Recipe, RecipeStage
from harness.tasks import Task, load_task
from harness.training import (
    Budget,
    Context,
    Progress,
    Step,
    linear_schedule,
    parameter_groups,
    task_loss,
    train,
)


def context(**more: Any) -> Context:
    budget = BUDGET.model_copy(update=more.pop("budget", {}))
    return Context(tiny_encoder(), tiny_task().training_view(), budget, **more)


def state(model: Encoder) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def trained(**more: Any) -> list[Tensor]:
    model = tiny_encoder()
    train(model, [], context(**more), "baseline")
    return state(model)


class Probe(Method):
    """A method that notes its calls."""

    card = replace(discover().get("magnitude").card, id="probe")

    @options
    class Options:
        """`name`: what it writes into the log."""

        name: str = "probe"

    log: list[tuple[str, str, float]]

    def note(self, hook: str, progress: float = -1.0) -> None:
        self.log.append((self.options.name, hook, progress))

    def prepare(self, student: Encoder, context: Context) -> None:
        self.note("prepare")

    def loss(self, step: Step) -> Tensor | None:
        self.note("loss", step.progress)
        return None

    def step(self, student: Encoder, progress: float) -> None:
        self.note("step", progress)

    def finish(self, student: Encoder, context: Context) -> None:
        self.note("finish")


def probe(kind: type[Method] = Probe, name: str = "probe", log: list[Any] | None = None) -> Call:
    logged = type(kind.__name__, (kind,), {"log": [] if log is None else log, "card": Probe.card})
    return Call(logged, Probe.Options(name=name))


# -- one seed, one result ---------------------------------------------------------------------------------


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


def test_the_examples_within_the_budget() -> None:
    everything = tiny_task().train()
    chosen = context(budget={"examples": 20}, seed=1).training_examples()
    assert len(chosen) == len({e.id for e in chosen}) == 20
    places = [everything.index(example) for example in chosen]
    assert places == sorted(places)
    assert chosen == context(budget={"examples": 20}, seed=1).training_examples()
    assert chosen != context(budget={"examples": 20}, seed=2).training_examples()
    assert context(budget={"examples": None}).training_examples() == everything
    assert context(budget={"examples": 10**6}).training_examples() == everything


# -- schedule and optimizer -------------------------------------------------------------------------------


def test_the_schedule_in_closed_form() -> None:
    rates = [linear_schedule(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([(n + 1) / 10 for n in range(10)])
    assert rates[10:] == pytest.approx([(100 - n) / 90 for n in range(10, 100)])
    assert [linear_schedule(n, 4, 0.0) for n in range(4)] == pytest.approx([1, 1, 2 / 3, 1 / 3])


@given(st.integers(1, 300), st.floats(0, 0.99))
def test_the_schedule_peaks_once_and_stays_positive(steps: int, warmup: float) -> None:
    rates = [linear_schedule(step, steps, warmup) for step in range(steps)]
    assert max(rates) <= 1
    assert min(rates) > 0
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_the_decay_is_that_of_transformers() -> None:
    def rates(make: Any) -> list[float]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = make(optimizer)
        found = []
        for _ in range(50):
            found.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        return found

    ours = rates(lambda optimizer: LambdaLR(optimizer, lambda step: linear_schedule(step, 50, 0.2)))
    theirs = rates(lambda optimizer: get_linear_schedule_with_warmup(optimizer, 10, 50))
    assert ours[10:] == pytest.approx(theirs[10:])
    # Theirs spends its first step at zero, ours does not.
    assert ours[:9] == pytest.approx(theirs[1:10])


def test_biases_and_norms_do_not_decay() -> None:
    model = tiny_encoder()
    matrices, others = parameter_groups(model, 0.01)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {names[id(p)] for p in matrices["params"]}  # type: ignore[attr-defined]
    plain = {names[id(p)] for p in others["params"]}  # type: ignore[attr-defined]
    assert (matrices["weight_decay"], others["weight_decay"]) == (0.01, 0.0)
    assert decayed | plain == set(names.values())
    assert {name for name in names.values() if name.endswith(".bias") or ".norm." in name} == plain


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


# -- what the loop says -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "steps", "epochs"),
    [
        ({"epochs": 2.0}, 6, 2.0),
        ({"epochs": 0.5}, 2, 2 / 3),
        ({"epochs": 0.01}, 1, 1 / 3),
        ({"epochs": 1.0, "batch_size": 100}, 1, 1.0),
        ({"epochs": 1.0, "examples": 33}, 3, 1.0),
    ],
)
def test_how_long_it_trains(budget: dict[str, Any], steps: int, epochs: float) -> None:
    found: list[Progress] = []
    done = train(tiny_encoder(), [], context(budget=budget, progress=lambda _, p: found.append(p)), "a stage")
    assert (done.steps, done.epochs) == (steps, pytest.approx(epochs))
    assert (done.stage, done.examples, done.precision) == ("a stage", budget.get("examples", 48), "float32")
    assert (found[-1].step, found[-1].steps) == (steps, steps)
    assert found[-1].loss == done.final_loss > 0


def test_bfloat16_where_asked_for() -> None:
    model = tiny_encoder()
    done = train(model, [], context(budget={"precision": "bfloat16"}), "a stage")
    assert done.precision == "bfloat16"
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not same(state(model), trained())


def test_it_learns() -> None:
    model, budget = tiny_encoder(), {"epochs": 20.0, "learning_rate": 3e-3}
    first = train(tiny_encoder(), [], context(), "one epoch").final_loss
    assert train(model, [], context(budget=budget), "twenty").final_loss < first
    assert not model.training


def test_a_loss_that_is_no_number() -> None:
    class Broken(Probe):
        def loss(self, step: Step) -> Tensor:
            return step.task_loss * (math.inf if step.progress > 0.5 else 1)

    words = (
        r"^the loss is inf at step 3 of 'mine' on toy-sentiment; lower the learning rate or use --precision"
    )
    with pytest.raises(SkylineError, match=words):
        train(tiny_encoder(), [probe(Broken).make()], context(), "mine")


def test_no_training_examples() -> None:
    view = tiny_task().training_view()
    empty = type(view)(view.name, view.kind, view.labels, view.metrics, view.metric, view.max_length, ())
    with pytest.raises(SkylineError, match="the training set of toy-sentiment has no examples"):
        train(tiny_encoder(), [], Context(tiny_encoder(), empty, BUDGET), "baseline")


# -- early stopping ---------------------------------------------------------------------------------------


class Judged:
    """Training whose held-out scores are given, with the weights at each epoch's end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, scores: list[float], patience: int) -> None:
        self.model, self.states, self.held = tiny_encoder(), list[list[Tensor]](), set[int]()
        wanted = iter(scores)

        def score(task: Any, predictions: Any, examples: Any) -> dict[str, float]:
            self.states.append(state(self.model))
            self.held.add(len(examples))
            return {"accuracy": next(wanted)}

        monkeypatch.setattr(training, "score", score)
        monkeypatch.setattr(training, "predict", lambda *_: [])
        budget = {"epochs": float(len(scores)), "patience": patience, "holdout": 0.25}
        self.training = train(self.model, [], context(budget=budget), "judged")


def test_early_stopping_keeps_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = Judged(monkeypatch, [60, 70, 65, 69, 68, 66, 62, 61], patience=2)
    assert 4 <= len(judged.states) < 8
    assert same(state(judged.model), judged.states[1])
    assert not same(state(judged.model), judged.states[2])
    assert judged.held == {12}, "a quarter of 48 examples"
    assert judged.training.examples == 36


def test_early_stopping_stops_after_so_many_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(Judged(monkeypatch, [60, 70, 65, 69, 68, 66, 62, 61], patience=2).states) == 4


def test_early_stopping_goes_on_while_it_gets_better(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = Judged(monkeypatch, [60, 60, 61, 61, 62, 62], patience=2)
    assert len(judged.states) == 6
    assert same(state(judged.model), judged.states[4]), "the first of equals"


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
    made = context(budget={"epochs": 4.0, "patience": 1, "holdout": 0.25})
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

    budget = {"patience": 1, "holdout": 0.25, "epochs": 1.0}
    done = train(tiny_encoder(), [probe(Rows).make()], context(budget=budget), "judged")
    assert seen == set(range(36))
    assert done.examples == 36


# -- hooks ------------------------------------------------------------------------------------------------


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
    _, done = run_stage(RecipeStage((probe(log=log),)), tiny_encoder(), context(), training=False)
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

    budget = {"epochs": 0.01}
    plain = train(tiny_encoder(), [], context(budget=budget), "").final_loss
    assert train(
        tiny_encoder(), [probe(Adds).make()], context(budget=budget), ""
    ).final_loss == pytest.approx(plain + 7)
    assert train(
        tiny_encoder(), [probe(Replaces).make()], context(budget=budget), ""
    ).final_loss == pytest.approx(7)
    both = [probe(Adds).make(), probe(Replaces).make()]
    assert train(tiny_encoder(), both, context(budget=budget), "").final_loss == pytest.approx(14)


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


# -- budgets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("epochs", [0, -1, "many"]),
        ("batch_size", [0, 1.5]),
        ("learning_rate", [0, -1e-5]),
        ("warmup", [-0.1, 1]),
        ("weight_decay", [-0.01]),
        ("clip", [0]),
        ("precision", ["float16"]),
        ("patience", [0]),
        ("holdout", [0, 0.6]),
        ("examples", [0]),
        ("epoch", [1]),
    ],
)
def test_budgets_out_of_range(field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValidationError):
            Budget.model_validate({field: value})
        for part in ("baseline", "recipe"):
            with pytest.raises(SkylineError, match=rf"budget\.{part}.*{field}|unknown .*{field}"):
                check_budget(BudgetSpec.model_validate({part: {field: value}}))


def test_a_budget_in_range() -> None:
    check_budget(
        BudgetSpec(baseline={"epochs": 0.5, "precision": "bfloat16"}, recipe={"patience": 1, "examples": 1})
    )
    assert Budget().model_dump() == Budget.model_validate({}).model_dump()
