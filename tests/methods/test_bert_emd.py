"""bert-emd: costs against plain errors, flows against SciPy's linear programme, weights by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from harness.conformance.tiny import tiny_encoder
from harness.models.batch import Output
from harness.models.model import evaluating
from harness.models.surgery import keep_layers
from methods.distillation.bert_emd import LEAST, cost_attention, flows, layer_costs
from tests.support.distilling import TEXTS, real_step
from tests.support.tiny_stages import context, draw, method_of


def test_costs_are_mean_squared_errors() -> None:
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    ours, theirs = [draw(2, 3, 4, seed=i) for i in range(2)], [draw(2, 3, 4, seed=9 + i) for i in range(3)]
    found = layer_costs(ours, theirs, mask[..., None])
    assert found.shape == (2, 3)
    for i, a in enumerate(ours):
        for j, b in enumerate(theirs):
            assert found[i, j].item() == pytest.approx(
                F.mse_loss(a[mask.bool()], b[mask.bool()]).item(), rel=1e-4
            )
    assert layer_costs(ours, ours, mask[..., None]).diagonal().abs().max() < 1e-5


def least_cost(costs: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> float:
    k, m = costs.shape
    sums = np.zeros((k + m, k * m))
    for i in range(k):
        sums[i, i * m : (i + 1) * m] = 1
    for j in range(m):
        sums[k + j, j::m] = 1
    solved = linprog(costs.ravel(), A_eq=sums, b_eq=np.concatenate([ours, theirs]), bounds=(0, None))
    assert solved.success
    return float(solved.fun)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 5), st.integers(1, 7), st.integers(0, 1000))
def test_flows_are_the_cheapest(student: int, teacher: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    costs, ours, theirs = rng.random((student, teacher)), rng.random(student) + 0.1, rng.random(teacher) + 0.1
    flow = flows(costs, ours, theirs)
    ours, theirs = ours / ours.sum(), theirs / theirs.sum()
    np.testing.assert_allclose(flow.sum(1), ours, atol=1e-9)
    np.testing.assert_allclose(flow.sum(0), theirs, atol=1e-9)
    assert (flow >= 0).all()
    assert (flow * costs).sum() == pytest.approx(least_cost(costs, ours, theirs), abs=1e-8)


def test_cheap_layers_gain() -> None:
    """c = (1, 3) / 0.5 = (2, 6), their sum 8: softmax(4, 4/3)."""
    found = cost_attention(np.array([[0.25, 0.75], [3.0, 0.0]]), np.array([0.5, 0.5]), 1.0)
    assert found[0] == pytest.approx(1 / (1 + math.exp(4 / 3 - 4)))
    assert found.sum() == pytest.approx(1)
    # Twice the temperature, half the exponents.
    warm = cost_attention(np.array([[1.0], [3.0]]), np.array([0.5, 0.5]), 2.0)
    assert warm[0] == pytest.approx(1 / (1 + math.exp(2 / 3 - 2)))
    # What a unit costs counts: a layer of three times the weight may cost three times as much.
    fair = cost_attention(np.array([[1.0], [3.0]]), np.array([0.25, 0.75]), 1.0)
    assert fair.tolist() == pytest.approx([0.5, 0.5])


def test_no_layer_is_given_up() -> None:
    found = cost_attention(np.array([[0.0], [5.0], [5.0]]), np.full(3, 1 / 3), 1.0)
    assert found[0] > 0.98
    assert found.min() == pytest.approx(LEAST / 3, rel=0.02)
    assert np.isfinite(cost_attention(np.zeros((2, 1)), np.full(2, 0.5), 1.0)).all()


def test_the_whole_loss() -> None:
    teacher = tiny_encoder().eval()
    student = keep_layers(teacher, [0, 3]).eval()
    method = method_of("bert-emd:layers=2,beta=0.5,alpha=0.75")
    method.prepare(student, context(teacher))
    step = real_step(student, teacher, method)
    found = method.loss(step)
    again = method.loss(real_step(student, teacher, method))
    assert found is not None
    assert again is not None
    found.backward()  # type: ignore[no-untyped-call]
    method.finish(student, context(teacher))
    outputs = list[Output]()
    for model in (student, teacher):
        with torch.no_grad(), evaluating(model):
            outputs.append(model(model.encode(TEXTS), hidden_states=True, attentions=True))
    ours, theirs = outputs
    mask = step.batch.attention_mask.bool()
    pairs = mask[:, None, :, None] & mask[:, None, None, :]
    assert ours.hidden_states and theirs.hidden_states and ours.attentions and theirs.attentions  # noqa: PT018
    states = [[F.mse_loss(a[mask], b[mask]).item() for b in theirs.hidden_states] for a in ours.hidden_states]
    scores = [
        [F.mse_loss(*(x.scores.masked_select(pairs) for x in (a, b))).item() for b in theirs.attentions]
        for a in ours.attentions
    ]
    alike = np.full(2, 1 / 2), np.full(4, 1 / 4)
    kinds = np.array(scores), np.array([row[1:] for row in states[1:]])
    inner = sum(least_cost(costs, *alike) for costs in kinds) + states[0][0]
    p, logs = F.softmax(theirs.logits, 1), F.log_softmax(ours.logits, 1)
    outer = 0.75 * -(p * logs).sum(1).mean() + 0.25 * step.task_loss.detach()
    assert found.item() == pytest.approx(float(outer) + 0.5 * inner, rel=1e-3)
    # The second time layers weigh as the first one's flows ask for.
    asked = []
    for costs in kinds:
        moved = flows(costs, *alike) * costs
        asked.append([cost_attention(side, w, 1.0) for side, w in zip((moved, moved.T), alike, strict=True)])
    weights = [(a + b) / 2 for a, b in zip(*asked, strict=True)]
    inner = sum(least_cost(costs, *weights) for costs in kinds) + states[0][0]
    assert again.item() == pytest.approx(float(outer) + 0.5 * inner, rel=1e-2)
    assert student.layers[0].attention_in.query.weight.grad is not None  # type: ignore[union-attr]
    assert not any(layer.attention_in.query._forward_hooks for layer in [*student.layers, *teacher.layers])
