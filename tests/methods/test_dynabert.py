"""dynabert: multipliers, importance and losses worked out by hand; one super-network for every pick."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.common.errors import Code
from harness.compression.context import Step
from harness.compression.task_loss import task_loss
from harness.conformance.tiny import tiny_encoder
from harness.models.batch import Batch, Output
from harness.models.config import EncoderConfig
from harness.models.surgery import code_words, keep_columns, keep_heads, keep_layers
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from methods.structured_pruning._subnetworks import SubNetwork, live_weight
from methods.structured_pruning.dynabert import (
    distillation_loss,
    importance,
    kept_layers,
    matched_states,
    multipliers,
    narrowed,
    rewired,
    share_of,
)
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context, method_of


def test_the_layers_of_each_depth_and_the_states_they_are_compared_with() -> None:
    assert kept_layers(12, 6) == [0, 2, 4, 6, 8, 10]
    assert kept_layers(12, 9) == [0, 1, 2, 4, 5, 6, 8, 9, 10]
    assert kept_layers(6, 6) == [0, 1, 2, 3, 4, 5]
    assert matched_states(12, 6) == [0, 2, 4, 6, 8, 10, 12]
    assert matched_states(4, 4) == [0, 1, 2, 3, 4]


def test_multipliers_must_leave_whole_numbers() -> None:
    assert share_of(12, 0.25) == 3
    assert share_of(12, 0.6667) == 8
    assert share_of(6, 0.75) is None
    assert share_of(1, 0.004) is None, "nothing left is no share"
    assert share_of(0, 0.5) == 0
    assert multipliers("all", (0.5, 1.0), "widths") == (1.0, 0.5)
    assert multipliers("0.25/0.5", (0.5, 1.0), "widths") == (1.0, 0.5, 0.25)
    for text in ("0.5/x", "0", "1.5", "/"):
        with pytest.raises(ValueError, match=f"^widths={text} "):
            multipliers(text, (), "widths")


def test_importance_of_columns_and_heads_against_finite_differences() -> None:
    """To first order: the loss's change as a head's output, or one side of a column's weights, is scaled."""
    teacher = tiny_encoder().double().eval()
    chosen = context(teacher, examples=5)
    heads, columns = importance(teacher, chosen, batches=4, size=3)
    assert all(parameter.grad is None for parameter in teacher.parameters())
    layer, head, column, step = 1, 2, 5, 1e-2  # the loss is float32
    size = teacher.config.layers[layer].head_size
    weights = {
        "head": (("attention_out.dense.weight", (slice(None), slice(head * size, (head + 1) * size))),),
        "into": (("ffn.into.weight", (column,)), ("ffn.into.bias", (column,))),
        "out": (("ffn.out.weight", (slice(None), column)),),
    }
    totals = dict.fromkeys(weights, 0.0)
    for batch, targets in chosen.batches(teacher, 3, 4, "dynabert"):
        for part, places in weights.items():
            losses = []
            for sign in (1, -1):
                moved = tiny_encoder().double().eval()
                with torch.no_grad():
                    for name, where in places:
                        moved.layers[layer].get_parameter(name)[where] *= 1 + sign * step
                    losses.append(float(task_loss("classification", moved(batch).logits.double(), targets)))
            totals[part] += abs(losses[0] - losses[1]) / (2 * step)
    assert float(heads[layer][head]) == pytest.approx(totals["head"], rel=1e-2, abs=1e-4)
    assert float(columns[layer][column]) == pytest.approx(totals["into"] + totals["out"], rel=1e-2, abs=1e-4)


def test_rewiring_orders_by_importance_and_keeps_the_function() -> None:
    teacher = tiny_encoder().eval()
    generator = torch.Generator().manual_seed(1)
    heads = [torch.rand(4, generator=generator) for _ in range(4)]
    columns = [torch.rand(128, generator=generator) for _ in range(4)]
    model = rewired(teacher, heads, columns)
    batch = Batch.synthetic(2, 6, 2048)
    assert torch.allclose(model(batch).logits, teacher(batch).logits, atol=1e-5)
    best = int(columns[2].argmax())
    assert torch.equal(model.layers[2].ffn.into.weight[0], teacher.layers[2].ffn.into.weight[best])
    worst = int(heads[2].argmin())
    expected = teacher.layers[2].attention_in.value.weight[8 * worst : 8 * worst + 8]
    assert torch.equal(model.layers[2].attention_in.value.weight[-8:], expected)


def test_a_sub_network_computes_what_the_cut_encoder_does_and_trains_the_whole() -> None:
    teacher = tiny_encoder().eval()
    layers = kept_layers(4, 2)
    network = SubNetwork(narrowed(teacher.config, layers, 0.5), layers)
    cut = keep_columns(keep_heads(keep_layers(teacher, layers), [range(2)] * 2), [range(64)] * 2).eval()
    batch = Batch.synthetic(3, 7, 2048)
    ran = network.run(lambda name: live_weight(teacher, name), batch)
    expected = cut(batch, hidden_states=True)
    assert torch.allclose(ran.logits, expected.logits, atol=1e-6)
    assert len(ran.hidden_states or ()) == 3
    ran.logits.sum().backward()
    gradient = teacher.layers[2].ffn.out.weight.grad
    assert gradient is not None
    assert gradient[:, :64].abs().sum() > 0
    assert gradient[:, 64:].abs().sum() == 0
    assert teacher.layers[1].ffn.out.weight.grad is None, "a layer that is left out is not trained"


def test_a_sub_network_has_the_codes_of_coded_words() -> None:
    drawn = torch.Generator().manual_seed(2)
    codes = torch.randint(0, 4, (2048, 3), generator=drawn).to(torch.uint8)
    teacher = code_words(tiny_encoder(), codes, torch.randn(3, 4, 32, generator=drawn)).eval()
    network = SubNetwork(teacher.config, range(4))
    batch = Batch.synthetic(2, 5, 2048)
    ran = network.run(lambda name: live_weight(teacher, name), batch)
    assert torch.allclose(ran.logits, teacher(batch).logits, atol=1e-6)


def step_of(kind: Any, mask: Tensor) -> Step:
    empty = Output(logits=torch.zeros(1, 2))
    batch = Batch(torch.zeros_like(mask), mask, torch.zeros_like(mask))
    return Step(kind, batch, torch.zeros(1), [0], empty, torch.zeros(()), 0.0, teacher=tiny_encoder())


def test_the_loss_sums_over_classes_and_matched_states() -> None:
    mask = torch.tensor([[1, 0]])
    states = (torch.tensor([[[1.0, 3.0], [50.0, 50.0]]]), torch.tensor([[[0.0, 2.0], [50.0, 50.0]]]))
    targets = (torch.zeros(1, 2, 2), torch.full((1, 2, 2), 9.0), torch.zeros(1, 2, 2))
    student = Output(torch.tensor([[0.0, math.log(3)]]), states)
    teacher = Output(torch.tensor([[math.log(4), 0.0]]), targets)
    # Teacher 4/5, 1/5; student 1/4, 3/4; states 0 and 2: (1 + 9)/2 and (0 + 4)/2, padding left out.
    expected = -(0.8 * math.log(0.25) + 0.2 * math.log(0.75)) + 0.1 * (5 + 2)
    found = distillation_loss(step_of("classification", mask), student, teacher, [0, 2], 0.1)
    assert float(found) == pytest.approx(expected, rel=1e-6)
    score = distillation_loss(
        step_of("regression", mask),
        Output(torch.tensor([[2.0]]), states),
        Output(torch.tensor([[5.0]]), targets),
        [0, 2],
        0.0,
    )
    assert float(score) == pytest.approx(9.0)


def test_every_pick_is_cut_from_the_same_super_network() -> None:
    whole, half, quarter = (
        built(f"dynabert:{pick},batches=1", training=True)
        for pick in ("width=1", "width=0.5", "width=0.25,depth=0.5")
    )
    assert [(layer.heads, layer.ffn_size) for layer in half.config.layers] == [(2, 64)] * 4
    assert [(layer.heads, layer.ffn_size) for layer in quarter.config.layers] == [(1, 32)] * 2
    for small, layers in ((half, [0, 1, 2, 3]), (quarter, [0, 2])):
        for own, index in zip(small.layers, layers, strict=True):
            for name, weight in own.named_parameters():
                full = whole.layers[index].get_parameter(name)
                assert torch.equal(weight, full[tuple(slice(n) for n in weight.shape)]), name
    untrained = built("dynabert:width=1,batches=1")
    assert not torch.equal(untrained.layers[0].ffn.into.weight, whole.layers[0].ffn.into.weight)


def test_one_step_has_the_gradient_of_the_sum_over_sub_networks() -> None:
    """Sub-networks whose backward ran inside the loss count exactly once."""
    teacher = tiny_encoder().eval()
    method: Any = method_of("dynabert:widths=0.5/1,depths=0.5/1,batches=1")
    chosen = context(teacher)
    student = method.student(teacher, chosen)
    for module in student.modules():  # no dropout: the two ways must see one function
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    method.prepare(student, replace(chosen, shapes_only=True))
    for network in method.networks.values():
        for module in network.skeleton.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.0
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.01)
    batch = Batch.synthetic(2, 5, 2048)
    output = student(batch, hidden_states=True)
    step = Step(
        "classification",
        batch,
        torch.zeros(2),
        [0, 1],
        output,
        torch.zeros(()),
        0.0,
        teacher,
        needs=method.needs,
    )
    loss = method.loss(step)
    loss.backward()
    found = {name: p.grad.clone() for name, p in student.named_parameters() if p.grad is not None}
    student.zero_grad()
    terms = []
    for width in (1.0, 0.5):
        full = method.networks[width, 1.0]
        with torch.no_grad():
            target = full.run(method.teacher.__getitem__, batch)
        for kept, depth in ((4, 1.0), (2, 0.5)):
            ran = method.networks[width, depth].run(lambda name: live_weight(student, name), batch)
            terms.append(distillation_loss(step, ran, target, matched_states(4, kept), 1.0))
    expected = torch.stack(terms).sum()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    expected.backward()
    assert len(found) == len(list(student.parameters()))
    for name, parameter in student.named_parameters():
        assert torch.allclose(found[name], parameter.grad, rtol=1e-3, atol=1e-5), name


def test_stage_two_learns_from_the_stage_one_model_and_both_are_recorded() -> None:
    teacher = tiny_encoder().eval()
    (stage,) = Recipe.parse("dynabert:batches=1").stages
    _, trainings = run_stage(stage, teacher, context(teacher))
    assert [training.stage for training in trainings] == ["dynabert stage 1 of 2: widths", str(stage)]
    method: Any = stage.calls[0].make()
    chosen = context(teacher)
    student = method.student(teacher, chosen)
    before = student.layers[0].ffn.into.weight.detach().clone()
    method.prepare(student, chosen)
    assert method.stage == 2
    taught = method.teacher["layers.0.ffn.into.weight"]
    assert torch.equal(taught, student.layers[0].ffn.into.weight)
    assert not torch.equal(taught, before)
    assert not taught.requires_grad


SIX = EncoderConfig.bert(6, 384, heads=12)


def test_the_shape_that_is_left() -> None:
    shape = method_of("dynabert:width=0.25,depth=0.5").final_shape_from(SIX)
    assert [(layer.heads, layer.ffn_size) for layer in shape.layers] == [(3, 384)] * 3
    base = method_of("dynabert:width=0.75,depth=0.75").final_shape_from(EncoderConfig.bert(12, 768))
    assert [(layer.heads, layer.ffn_size) for layer in base.layers] == [(9, 2304)] * 9


@pytest.mark.parametrize(
    ("recipe", "config", "names"),
    [
        ("dynabert:depth=0.75", SIX, ["depth=0.75", "6 layers", "1, 0.5"]),
        ("dynabert:width=0.25", EncoderConfig.bert(6, 384, heads=6), ["width=0.25", "1, 0.5"]),
        ("dynabert:depths=0.75", SIX, ["depths=0.75", "layers"]),
        ("dynabert:widths=0.3/0.5", SIX, ["widths=0.3/0.5: 0.3 ", "heads or FFN columns"]),
    ],
)
def test_shapes_that_cannot_be_narrowed(recipe: str, config: EncoderConfig, names: list[str]) -> None:
    with refused(Code.OUT_OF_RANGE, *names):
        method_of(recipe).final_shape_from(config)


def test_only_widths_that_fit_are_trained() -> None:
    config = EncoderConfig.bert(2, 32, heads=4, ffn=30)
    assert method_of("dynabert").final_shape_from(config).layers[0].ffn_size == 15


def test_shared_factorized_and_empty_layers_are_refused() -> None:
    method = method_of("dynabert")
    first = SIX.layers[0]
    shared = SIX.with_layers((first, first.model_copy(update={"shares_with": 0})))
    with refused("heads and columns", "share weights"):
        method.final_shape_from(shared)
    with refused("heads and columns", "layer 0", "factorized"):
        method.final_shape_from(SIX.with_layers((first.model_copy(update={"ranks": {"query": 8}}),)))
    with refused(Code.WRONG_SHAPE, "heads", "FFN columns"):
        method.final_shape_from(SIX.with_layers((first.model_copy(update={"heads": 0, "ffn_size": 0}),)))
