"""minilm and tinybert: what their first trainings compare, against the encoder's own maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import rel_entr, softmax
from torch import Tensor

from harness.compression.pruning.reconstruction import Moments, choose_units, observe_states
from harness.conformance.tiny import tiny_encoder
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.layers import AttentionIn
from harness.models.model import evaluating
from harness.models.surgery import keep_hidden, keep_layers
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from tests.support.distilling import TEXTS, first_training, real_step
from tests.support.tiny_stages import built, context


def observed(model: Encoder) -> Any:
    with torch.no_grad(), evaluating(model):
        return model(model.encode(TEXTS), hidden_states=True, attentions=True)


def values(model: Encoder, states: Tensor, index: int) -> np.ndarray:
    """The values of a layer (b, h, n, d)."""
    module = model.layers[index].attention_in
    assert isinstance(module, AttentionIn)
    with torch.no_grad():
        found: Tensor = module.value(states).unflatten(-1, (module.heads, module.head_size))
    return found.transpose(1, 2).double().numpy()


def test_minilm_compares_the_last_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = tiny_encoder().eval()
    student, method, seen = first_training(
        "minilm:layers=2,choose=first,relation_share=0.25", teacher, context(teacher), monkeypatch
    )
    ((found, budget),) = seen
    assert budget == {"share": 0.25, "patience": None}
    mask = teacher.encode(TEXTS).attention_mask.bool().numpy()
    ours, theirs = observed(student), observed(teacher)
    p, q = (x.attentions[-1].probabilities.double().numpy() for x in (theirs, ours))
    wanted = [rel_entr(p, q).sum(-1).transpose(0, 2, 1)[mask].mean()]
    relations = []
    for model, output, end in ((teacher, theirs, 3), (student, ours, 1)):
        v = values(model, output.hidden_states[end], end)
        scores = v @ v.swapaxes(-1, -2) / np.sqrt(v.shape[-1])
        relations.append(softmax(np.where(mask[:, None, None, :], scores, -np.inf), axis=-1))
    wanted.append(rel_entr(*relations).sum(-1).transpose(0, 2, 1)[mask].mean())
    assert found.item() == pytest.approx(sum(wanted), rel=1e-4)
    assert min(wanted) > 0
    # The gradient reaches the values and the queries of the last layer, and nothing behind its attention.
    found.backward()
    last = student.layers[1]
    assert last.attention_in.value.weight.grad is not None  # type: ignore[union-attr]
    assert last.attention_in.query.weight.grad.abs().sum() > 0  # type: ignore[union-attr]
    assert last.ffn.into.weight.grad is None  # type: ignore[union-attr]
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert method.needs == frozenset(), "fine-tuning needs nothing of the teacher unless told so"


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_minilm_is_fine_tuned_with_or_without_logits(weight: float, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = tiny_encoder().eval()
    recipe = f"minilm:layers=2,logits={weight},temperature=3"
    student, method, _ = first_training(recipe, teacher, context(teacher), monkeypatch)
    step = real_step(student, teacher, method)
    found = method.loss(step)
    assert found is not None
    p, q = (softmax(x.detach().double().numpy() / 3, 1) for x in (step.teacher_logits, step.output.logits))
    soft = 9 * rel_entr(p, q).sum(1).mean()
    assert found.item() == pytest.approx((1 - weight) * step.task_loss.item() + weight * soft, rel=1e-4)
    assert method.needs == ({"teacher_logits"} if weight else set())


def test_minilm_trains_twice() -> None:
    (stage,) = Recipe.parse("minilm:layers=2,relation_share=0.667").stages
    teacher = tiny_encoder().eval()
    student, (first, second) = run_stage(stage, teacher, context(teacher, epochs=3))
    assert (first.stage, first.steps) == ("minilm attention and values", 6)
    assert second.steps == 3
    assert not any(layer.attention_in.query._forward_hooks for layer in [*student.layers, *teacher.layers])


@pytest.mark.parametrize("hidden", [None, 24])
def test_tinybert_s_first_stage(hidden: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = tiny_encoder().eval()
    recipe = "tinybert:layers=2,intermediate_share=0.25" + (f",hidden={hidden}" if hidden else "")
    given = context(teacher)
    student, method, seen = first_training(recipe, teacher, given, monkeypatch)
    ((found, budget),) = seen
    assert budget == {"share": 0.25, "patience": None}
    mask = teacher.encode(TEXTS).attention_mask.bool()
    ours, theirs = observed(student), observed(teacher)
    fit = method.fit  # type: ignore[attr-defined]
    wanted = 0.0
    for place, other in ((0, 0), (1, 2), (2, 4)):
        states = ours.hidden_states[place] if fit is None else fit(ours.hidden_states[place])
        wanted += F.mse_loss(states[mask], theirs.hidden_states[other][mask]).item()
    for place, other in ((0, 1), (1, 3)):
        total, count = 0.0, 0
        for row, length in enumerate(mask.sum(1).tolist()):
            a, b = (
                x.scores[row, :, :length, :length] for x in (ours.attentions[place], theirs.attentions[other])
            )
            total, count = total + (a - b).square().sum().item(), count + a.numel()
        wanted += total / count
    assert found.item() == pytest.approx(wanted, rel=1e-4)
    assert (fit is None) == (hidden is None)
    assert "fit_dense" not in dict(student.named_modules()), "the map is not stored"
    # Stage 2: the soft cross-entropy, no labels.
    step = real_step(student, teacher, method)
    soft = method.loss(step)
    assert soft is not None
    p, logs = softmax(step.teacher_logits.double().numpy(), 1), F.log_softmax(step.output.logits.double(), 1)
    assert soft.item() == pytest.approx(-(p * logs.detach().numpy()).sum(1).mean(), rel=1e-4)
    assert method.needs == {"teacher_logits"}


def test_tinybert_s_narrower_student() -> None:
    teacher = tiny_encoder().eval()
    given = context(teacher)
    units = choose_units(observe_states(teacher, given, 16).covariance, 24)
    wanted = keep_hidden(keep_layers(teacher, [0, 3]), units)
    student = built("tinybert:layers=2,hidden=24", teacher)
    assert student.config == wanted.config
    assert student.config.hidden_size == 24
    assert [layer.heads for layer in student.config.layers] == [4, 4]
    pairs = zip(student.state_dict().items(), wanted.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)


def test_states_are_those_of_real_tokens() -> None:
    model = tiny_encoder().eval()
    given = context(model, examples=6)
    moments, rows = Moments(32), 0
    with torch.no_grad():
        for example in given.training_examples():
            states = model(model.encode([example.text], max_length=32), hidden_states=True).hidden_states
            for state in states:
                moments.add(state[0])
                rows += state.shape[1]
    found = observe_states(model, given, 4)
    assert found.count == moments.count == rows
    torch.testing.assert_close(found.covariance, moments.covariance, rtol=1e-4, atol=1e-5)


def test_tinybert_s_first_stage_brings_the_states_nearer() -> None:
    teacher = tiny_encoder().eval()

    def distance(student: Encoder) -> float:
        ours, theirs = observed(student), observed(teacher)
        return F.mse_loss(ours.hidden_states[-1], theirs.hidden_states[-1]).item()

    before = built("tinybert:layers=2", teacher)
    after = built("tinybert:layers=2,intermediate_share=0.99", teacher, training=True, epochs=12)
    assert distance(after) < 0.8 * distance(before)
