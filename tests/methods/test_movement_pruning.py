"""movement and soft-movement: gradients of the scores and choice of the masks, worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.compression.pruning.learned_masks import LearnedMasks, ScoredWeight, is_score
from harness.compression.training import parameter_groups
from harness.conformance.tiny import tiny_encoder
from harness.models.artifacts import read_config, save_artifact
from harness.models.parametrization import attach, attached
from harness.models.surgery import keep_layers
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context, method_of


def test_the_scores_gradient_is_the_weight_s_times_the_weight() -> None:
    """y = (W ⊙ M) x with x = (1, 2): ∂y/∂W′ = x, so ∂y/∂S = x ⊙ W, of dropped weights too."""
    linear = nn.Linear(2, 1, bias=False)
    linear.weight.data = torch.tensor([[3.0, -4.0]])
    scored = ScoredWeight(linear.weight.detach())
    attach(linear, "weight", scored)
    scored.mask = torch.tensor([[True, False]])
    y = linear(torch.tensor([1.0, 2.0]))
    assert y.item() == 3.0
    y.backward()
    assert scored.scores.grad.tolist() == [[3.0, -8.0]]
    original = linear.parametrizations["weight"].original
    assert original.grad.tolist() == [[1.0, 0.0]]


def test_a_weight_that_the_loss_moves_away_from_zero_gains_score() -> None:
    """S accumulates −α Σ ∂L/∂W′ · W: positive where the step increases |W| (Sanh et al. 2020, section 4)."""
    linear = nn.Linear(2, 1, bias=False)
    linear.weight.data = torch.tensor([[1.0, 1.0]])
    scored = ScoredWeight(linear.weight.detach())
    attach(linear, "weight", scored)
    optimizer = torch.optim.SGD(linear.parameters(), lr=0.1)
    loss = -2 * linear.weight[0, 0] + 2 * linear.weight[0, 1]
    loss.backward()
    optimizer.step()
    assert scored.scores[0, 0] > 0 > scored.scores[0, 1]


@pytest.mark.parametrize("method", ["movement", "soft-movement"])
def test_movement_is_followed_from_the_pretrained_weights(method: str) -> None:
    """Not where the option says otherwise; what another method made of them is not thrown away."""
    base, teacher = tiny_encoder(), tiny_encoder()
    with torch.no_grad():
        teacher.layers[0].ffn.out.weight.add_(1)
    for recipe, source in ((method, base), (f"{method}:start=fine-tuned", teacher)):
        told = context(teacher, load_pretrained=tiny_encoder)
        student = tiny_encoder()
        student.load_state_dict(teacher.state_dict())
        method_of(recipe).prepare(student, told)
        assert torch.equal(student.layers[0].ffn.out.weight, source.layers[0].ffn.out.weight)
    with refused(f"{method}:start=pretrained", "shape"):
        method_of(method).prepare(keep_layers(teacher, [0]), told)


def test_scores_have_their_own_rate_and_do_not_decay() -> None:
    method: Any = method_of("movement:score_learning_rate=0.25")
    student = tiny_encoder()
    method.prepare(student, context(student))
    names = {name for name, _ in student.named_parameters() if is_score(name)}
    assert len(names) == 4 * 6
    groups = parameter_groups(student, 0.01, [method])
    own = [group for group in groups if group.get("lr") == 0.25]
    assert len(own) == 1
    assert own[0]["weight_decay"] == 0.0
    assert len(own[0]["params"]) == len(names)
    frozen = {name for name, p in student.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in student.named_parameters() if name.startswith("embedding.")}


def test_the_largest_scores_stay(tmp_path: Path) -> None:
    teacher = tiny_encoder().eval()
    student = built("movement:sparsity=0.75", teacher, training=True)
    assert attached(student) == []
    for name, _kind in student.matrix_names().items():
        weight = student.get_parameter(name)
        assert float((weight == 0).float().mean()) == pytest.approx(0.75, abs=0.001)
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert torch.equal(student.embedding.word.weight, teacher.embedding.word.weight)
    save_artifact(student, tmp_path / "artifact")
    codecs = read_config(tmp_path / "artifact").codecs
    assert set(codecs.values()) == {"bitmask"}
    assert len(codecs) == 4 * 6


def test_soft_masks_keep_what_is_above_the_threshold_and_at_least_a_little() -> None:
    student = tiny_encoder()
    names = list(student.matrix_names())[:2]
    method: Any = method_of("soft-movement:threshold=0.2")
    method.masks = LearnedMasks(student, names)
    first, second = (method.masks.weights[name] for name in names)
    limit = math.log(0.2 / 0.8)
    first.scores.data = torch.linspace(limit - 1, limit + 1, first.scores.numel()).view_as(first.scores)
    second.scores.data.fill_(-9.0)
    method.choose(1.0)
    assert torch.equal(first.mask, first.scores > limit)
    assert int(second.mask.sum()) == second.mask.numel() - round(0.995 * second.mask.numel())


def test_the_penalty_is_the_mean_over_matrices_and_grows_with_the_threshold() -> None:
    teacher = tiny_encoder().eval()
    method: Any = method_of("soft-movement:penalty=10,begin=0,end=1")
    method.prepare(teacher, context(teacher))

    class Now:
        progress = 0.5

    for scored in method.masks.weights.values():
        scored.scores.data.fill_(math.log(3.0))  # σ = 0.75
    # Cubic: half-way through, 1 − 0.5³ of the final threshold.
    assert float(method.loss(Now()).detach()) == pytest.approx(10 * 0.875 * 0.75)
