"""schubert: factors that fold exactly, their penalty, which units go and what the normalisations become."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from harness.compression.pruning.importance import gated
from harness.compression.training import train_round
from harness.conformance.tiny import CONFIG, tiny_encoder
from harness.models.batch import Batch
from harness.models.config import EncoderConfig
from harness.models.parameter_counts import encoder_parameters
from harness.models.parametrization import attached
from harness.models.surgery import keep_hidden
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from methods.structured_pruning._unit_scales import UnitFactors
from methods.structured_pruning.schubert import (
    FactorTraining,
    correct_norms,
    cut,
    l1_penalty,
    largest_units,
    unit_costs,
    with_sizes,
)
from tests.support.tiny_stages import built, context, method_of


def drawn(factors: UnitFactors) -> None:
    """Factors between 0.5 and 1.5."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for factor in (factors.hidden, *factors.heads, *factors.columns):
            factor.copy_(0.5 + torch.rand(factor.shape, generator=generator))


def batch() -> Batch:
    found = Batch.synthetic(3, 7, 100)
    found.attention_mask[1, 4:] = 0
    return found


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_factors_of_one_change_nothing_and_folding_is_exact() -> None:
    model = tiny_encoder().eval()
    plain = model(batch()).logits
    factors = UnitFactors(model)
    assert torch.allclose(model(batch()).logits, plain, atol=1e-6)
    drawn(factors)
    scaled = model(batch()).logits
    assert (scaled - plain).abs().max() > 1e-2
    factors.fold(model)
    assert attached(model) == []
    assert torch.allclose(model(batch()).logits, scaled, atol=1e-6)


def test_factors_multiply_states_heads_and_columns() -> None:
    """Against hooks on what flows through an encoder whose weights stay as they are."""
    model, other = tiny_encoder().eval(), tiny_encoder().eval()
    factors = UnitFactors(model)
    drawn(factors)

    def multiply(_module: nn.Module, _inputs: Any, states: Tensor) -> Tensor:
        return states * factors.hidden

    for module in other.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(multiply)
    other.head.dropout.register_forward_hook(multiply)  # after the pooler
    with gated(other, heads=list(factors.heads), columns=list(factors.columns)):
        expected = other(batch()).logits
    assert torch.allclose(model(batch()).logits, expected, atol=1e-5)


def test_the_penalty_s_weights_at_bert_base_are_the_published_ones() -> None:
    hidden, heads, columns = unit_costs(EncoderConfig.bert(12, 768))
    # A hidden unit: vocabulary, positions, segments and norm; in each layer 4 · 768 + 2 · 3072 weights, 2 biases and
    # 2 norms; a row and a column of the pooler with its bias; the classifier's two columns.
    own = (30522 + 512 + 2 + 2) + 12 * (4 * 768 + 2 * 3072 + 2 + 4) + 2 * 768 + 2
    assert hidden == pytest.approx(own / (4 * 768 * 64 + 3 * 64))
    assert [round(hidden, 2), heads[0], round(columns[0], 4)] == [0.73, 1.0, 0.0078]
    assert len(heads) == len(columns) == 12


def test_the_penalty_is_the_weighted_l1_norm() -> None:
    model = tiny_encoder()
    factors = UnitFactors(model)
    with torch.no_grad():
        factors.hidden.fill_(-0.5)
        factors.heads[0].fill_(2.0)
        factors.columns[3].fill_(0.0)
    costs = (3.0, [1.0, 2.0, 3.0, 4.0], [0.1, 0.2, 0.3, 0.4])
    # 32 hidden units, 4 heads and 128 columns in each of 4 layers.
    expected = 3 * 32 * 0.5 + 4 * (2 * 1 + 2 + 3 + 4) + 128 * (0.1 + 0.2 + 0.3)
    assert l1_penalty(factors, costs).item() == pytest.approx(expected, rel=1e-6)


def test_the_smallest_factors_go_whatever_they_stand_on() -> None:
    model = tiny_encoder()
    factors = UnitFactors(model)
    with torch.no_grad():
        factors.columns[1][5] = 0.1
        factors.heads[2][3] = -0.2
        factors.hidden[7] = 0.3
        factors.heads[0][1] = 0.4
    whole = encoder_parameters(CONFIG)
    # A column has 2 · 32 + 1 parameters, a head 4 · 32 · 8 + 3 · 8.
    kept = largest_units(factors, CONFIG, whole - 1, "all")
    assert 5 not in kept.columns[1]
    assert [len(kept.hidden), *map(len, kept.heads)] == [32, 4, 4, 4, 4]
    kept = largest_units(factors, CONFIG, whole - 65 - 1, "all")
    assert kept.heads == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2], [0, 1, 2, 3]]
    kept = largest_units(factors, CONFIG, whole - 65 - 1048 - 1, "all")
    assert kept.hidden == [unit for unit in range(32) if unit != 7]
    assert kept.heads[0] == [0, 1, 2, 3]
    kept = largest_units(factors, CONFIG, whole - 1, "hidden")
    assert kept.hidden == [unit for unit in range(32) if unit != 7]
    assert kept.heads == [[0, 1, 2, 3]] * 4
    assert all(len(columns) == 128 for columns in kept.columns)


def test_equal_factors_go_from_all_dimensions_alike() -> None:
    kept = largest_units(UnitFactors(tiny_encoder()), CONFIG, encoder_parameters(CONFIG) / 2, "all")
    share = len(kept.hidden) / 32
    assert 0.5 < share < 0.9
    assert all(abs(len(columns) / 128 - share) < 0.05 for columns in kept.columns)
    assert len({len(heads) for heads in kept.heads}) == 1
    assert abs(len(kept.heads[0]) / 4 - share) <= 0.25


def test_one_hidden_unit_and_one_head_stay() -> None:
    factors = UnitFactors(tiny_encoder())
    with torch.no_grad():
        factors.hidden.mul_(0)
        factors.hidden[9] = 0.01
        factors.heads[2][1] = 1.5
    kept = largest_units(factors, CONFIG, 0, "all")
    assert kept.hidden == [9]
    assert kept.heads == [[], [], [1], []]
    assert kept.columns == [[], [], [], []]


def test_cutting_units_of_factor_zero_changes_nothing_where_norms_do_not_differ_between_tokens() -> None:
    """All tokens are alike here, so that the corrected normalisations are exact."""
    model = tiny_encoder().eval()
    with torch.no_grad():
        model.embedding.position.weight.zero_()
    factors = UnitFactors(model)
    drawn(factors)
    with torch.no_grad():
        factors.hidden[[1, 4, 30]] = 0
        factors.heads[0][2] = 0
        factors.heads[3][:] = 0
        factors.columns[1][::2] = 0
        factors.columns[2][:] = 0
    factors.fold(model)
    same = Batch(*(torch.full((2, 6), value) for value in (11, 1, 0)))
    before = model(same).logits
    sizes = with_sizes(CONFIG, 29, [3, 4, 4, 0], [128, 64, 0, 128])
    chosen = context(model)
    chosen.batches = lambda *_args: iter([(same, torch.zeros(2))])  # type: ignore[method-assign]
    after = cut(model, factors, encoder_parameters(sizes), "all", chosen)
    assert after.config.layers == sizes.layers
    assert after.config.hidden_size == 29
    assert count(after) == encoder_parameters(sizes)
    assert torch.allclose(after(same).logits, before, atol=1e-5)


def test_corrected_normalisations_are_nearer_to_the_whole_encoder() -> None:
    errors = []
    for corrected in (True, False):
        model = tiny_encoder().eval()
        factors = UnitFactors(model)
        with torch.no_grad():
            factors.hidden[:10] = 0
        factors.fold(model)
        expected, kept = model(batch(), hidden_states=True).hidden_states, range(10, 32)
        if corrected:
            correct_norms(model, kept, [batch()])
        states = keep_hidden(model, kept)(batch(), hidden_states=True).hidden_states
        mask = batch().attention_mask.bool()
        errors.append((states[1][mask] - expected[1][:, :, 10:][mask]).norm().item())
    assert errors[0] < errors[1]


def test_only_factors_are_learned() -> None:
    teacher, model = tiny_encoder(), tiny_encoder()
    chosen = context(teacher)
    method = FactorTraining(100.0)
    method.prepare(model, chosen)
    assert method.learning_rate("layers.0.ffn.out.parametrizations.weight.0.factor") == 1e-2
    assert method.learning_rate("layers.0.ffn.out.parametrizations.weight.original") is None
    train_round(model, [method], chosen, "factors", share=1)
    factors = method.factors
    assert all((factor < 1).all() for factor in (factors.hidden, *factors.heads, *factors.columns))
    layer, old = model.layers[1], teacher.layers[1]
    assert torch.equal(layer.ffn.into.weight, old.ffn.into.weight)
    assert torch.equal(layer.ffn.out.parametrizations.weight.original, old.ffn.out.weight)
    assert torch.equal(model.head.pooler.weight, teacher.head.pooler.weight)
    assert torch.equal(model.embedding.word.weight, teacher.embedding.word.weight)
    expected = old.ffn.out.weight * factors.columns[1]
    method.finish(model, chosen)
    assert torch.equal(layer.ffn.out.weight, expected)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert sorted(dict(model.named_parameters())) == sorted(dict(teacher.named_parameters()))


@pytest.mark.parametrize("recipe", ["schubert:keep=0.6", "schubert:keep=0.6,dimensions=hidden"])
def test_the_size_is_what_was_asked_for(recipe: str) -> None:
    student = built(recipe)
    assert count(student) == encoder_parameters(student.config)
    # At most a hidden unit less, the largest: embeddings' 2048 + 64 + 2 + 2, each layer's 4 · 32 + 2 · 128 + 6, and
    # 2 · 32 + 3 of pooler and classifier.
    assert 2116 + 4 * 390 + 67 > 0.6 * encoder_parameters(CONFIG) - count(student) >= 0


def test_the_hidden_size_is_known_before_training() -> None:
    left = method_of("schubert:keep=0.6,dimensions=hidden").final_shape_from(CONFIG)
    assert left == built("schubert:keep=0.6,dimensions=hidden,rounds=1").config
    assert left == built("schubert:keep=0.6,dimensions=hidden,rounds=4").config
    # The paper's encoder of 43 million parameters has 304 hidden units or a little fewer.
    half = method_of("schubert:keep=0.39,dimensions=hidden")
    assert 296 <= half.final_shape_from(EncoderConfig.bert(12, 768)).hidden_size <= 304


def test_rounds_of_factors_and_fine_tuning() -> None:
    teacher = tiny_encoder().eval()
    (stage,) = Recipe.parse("schubert:rounds=2,factor_share=0.5").stages
    student, training = run_stage(stage, teacher, context(teacher, epochs=8))
    assert [(entry.stage, entry.epochs) for entry in training] == [
        ("schubert factors 1 of 2", 2.0),
        ("schubert round 1 of 2", 2.0),
        ("schubert factors 2 of 2", 2.0),
        ("schubert:rounds=2,factor_share=0.5", 2.0),
    ]
    assert training[-1].figures["hidden size"] == student.config.hidden_size
    assert count(student) <= 0.7 * count(teacher)


def test_hidden_units_of_factorized_matrices_can_be_cut() -> None:
    student = built("schubert:keep=0.8,dimensions=hidden", built("svd:rank=4"))
    assert student.config.hidden_size < 32
    assert count(student) == encoder_parameters(student.config)
