"""identity-prior: norms of residual mappings, which of them go, spectral normalisation and the penalty."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.compression.context import Step
from harness.compression.training import train_round
from harness.conformance.tiny import tiny_encoder
from harness.models.batch import Batch
from harness.models.config import EncoderConfig, LayerConfig
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.layers import NormOnly
from harness.models.parameter_counts import encoder_parameters
from harness.models.parametrization import attached
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from methods.structured_pruning._residual_norms import Mapping, ResidualMappings, function_norms
from methods.structured_pruning._spectral_scale import SpectralScale
from methods.structured_pruning.identity_prior import IdentityPenalty, parameter_shares, smallest_mappings
from tests.support.tiny_stages import built, context

SMALL = EncoderConfig(
    hidden_size=4, vocab_size=10, layers=(LayerConfig(heads=2, head_size=2, ffn_size=8),) * 2
)
"""A head has 4·4·2 + 3·2 = 38 parameters, attention 2·38 + 4 = 80, the FFN 2·4·8 + 8 + 4 = 76, a layer with its
norms' 16 then 172."""


def padded() -> Batch:
    batch = Batch.synthetic(2, 5, 100)
    batch.attention_mask[1, 3:] = 0
    return batch


def by_hand(model: Encoder, batch: Batch) -> dict[Mapping, float]:
    """The norms from the definition: F of a head is its probabilities times its values times its output columns."""
    output = model(batch, hidden_states=True, attentions=True)
    mask = batch.attention_mask.bool()
    found = {}
    for index, layer in enumerate(model.layers):
        x, config = output.hidden_states[index], model.config.layers[index]
        total = layer.attention_out.dense.bias
        for head in range(config.heads):
            part = slice(head * config.head_size, (head + 1) * config.head_size)
            value = x @ layer.attention_in.value.weight[part].T + layer.attention_in.value.bias[part]
            added = output.attentions[index].probabilities[:, head] @ value
            added = added @ layer.attention_out.dense.weight[:, part].T
            total = total + added
            found[Mapping(index, "head", head)] = ratio(added, x, mask)
        found[Mapping(index, "attention")] = ratio(total, x, mask)
        middle = torch.nn.functional.layer_norm(
            x + total, (x.shape[-1],), layer.attention_out.norm.weight, layer.attention_out.norm.bias, 1e-12
        )
        inner = torch.nn.functional.gelu(middle @ layer.ffn.into.weight.T + layer.ffn.into.bias)
        added = inner @ layer.ffn.out.weight.T + layer.ffn.out.bias
        found[Mapping(index, "ffn")] = ratio(added, middle, mask)
    return found


def ratio(added: Tensor, x: Tensor, mask: Tensor) -> float:
    return float(added[mask].abs().sum() / x[mask].abs().sum())


def test_norms_are_those_of_the_definition_and_leave_padding_out() -> None:
    model, batch = tiny_encoder().eval(), padded()
    found = function_norms(model, [batch])
    with torch.no_grad():
        expected = by_hand(model, batch)
    assert found.keys() == expected.keys()
    assert len(found) == 4 * (4 + 2)
    assert [found[mapping] for mapping in found] == pytest.approx([expected[m] for m in found], rel=1e-4)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_norms_of_several_batches_weigh_tokens_not_batches() -> None:
    model, batch = tiny_encoder().eval(), padded()
    alone = [batch.rows(0, 1), batch.rows(1, 2)]
    found, expected = function_norms(model, alone), function_norms(model, [batch])
    assert [found[mapping] for mapping in expected] == pytest.approx(list(expected.values()), rel=1e-4)


def norms(*first: float, second: tuple[float, ...] = (9, 9, 9, 9)) -> dict[Mapping, float]:
    """The norms of head 0, head 1, attention and FFN of the two layers."""
    names = [("head", 0), ("head", 1), ("attention", 0), ("ffn", 0)]
    return {
        Mapping(layer, kind, head): size  # type: ignore[arg-type]
        for layer, sizes in enumerate((first, second))
        for (kind, head), size in zip(names, sizes, strict=True)
    }


def test_parameter_shares() -> None:
    shares = parameter_shares(norms(1, 1, 1, 1), SMALL)
    assert shares == pytest.approx([38 / 172, 38 / 172, 80 / 172, 76 / 172] * 2)


@pytest.mark.parametrize(
    ("share", "rank", "heads", "ffn"),
    [
        # 0.25 · 344 = 86: by the norm the head of 0.25 goes before the FFN of 0.3, which then does not fit; what is
        # left of the block, 42, does.
        (0.25, "norm", [[], [0, 1]], [True, True]),
        # 0.25² / 38 = 0.0016 > 0.3² / 76 = 0.0012: the FFN first; of 86 − 76 = 10 nothing more fits.
        (0.25, "energy", [[0, 1], [0, 1]], [False, True]),
        # 172: the head (38) and the FFN (76), then the block of 0.5 with its last head and its bias, 42.
        (0.5, "norm", [[], [0, 1]], [False, True]),
        # 0.05 · 344 = 17 is less than a head.
        (0.05, "energy", [[0, 1], [0, 1]], [True, True]),
    ],
)
def test_the_smallest_mappings_go(share: float, rank: Any, heads: list[list[int]], ffn: list[bool]) -> None:
    given = norms(0.25, 0.8, 0.5, 0.3)
    assert smallest_mappings(given, SMALL, share, rank) == (heads, ffn)


def test_an_ffn_goes_instead_of_heads_where_that_comes_nearer() -> None:
    """0.65 · 344 = 223.6: three heads (38 + 42 + 38) and an FFN (76) leave 29.6. With the other FFN 46.4 too much
    goes, of which the largest head gives back 38.
    """
    given = norms(0.1, 0.2, 3.0, 0.8, second=(0.3, 0.35, 3.0, 0.9))
    assert smallest_mappings(given, SMALL, 0.65, "norm") == ([[], [0, 1]], [False, False])
    # 0.6 · 344 = 206.4 leaves 12.4; the exchange would take 25.6 too much.
    assert smallest_mappings(given, SMALL, 0.6, "norm") == ([[], [1]], [False, True])


def test_the_last_head_stays() -> None:
    """Without attention the first token would know of no other."""
    given = norms(0.1, 0.2, 0.05, 0.3, second=(0.4, 0.6, 0.5, 0.7))
    heads, ffn = smallest_mappings(given, SMALL, 0.99, "norm")
    assert (heads, ffn) == ([[], [1]], [False, False])


def test_spectral_normalisation_begins_as_the_weight_and_follows_its_scale() -> None:
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1)))[0]
    weight = (turn * torch.tensor([3.0, 1.0, 0.5])) @ turn.T
    function = SpectralScale(weight, torch.Generator().manual_seed(0))
    assert function.first.item() == pytest.approx(3.0, rel=1e-5)
    assert torch.allclose(function(weight), weight, atol=1e-5)
    # The scale alone says how large the weight is.
    assert torch.allclose(function(5 * weight), weight, atol=1e-5)
    with torch.no_grad():
        function.scale.fill_(0.5)
    assert torch.linalg.matrix_norm(function(weight).detach(), 2).item() == pytest.approx(1.5, rel=1e-5)
    # Power iteration finds the first direction of another weight.
    changed = weight + torch.diag(torch.tensor([4.0, 0.0, 1.0]))
    function.iterate(changed, 100)
    assert function.sigma(changed).item() == pytest.approx(float(torch.linalg.svdvals(changed)[0]), rel=1e-5)


def test_the_penalty_is_the_weighted_sum_of_relative_norms() -> None:
    model, batch = tiny_encoder().eval(), padded()
    with torch.no_grad():
        expected = by_hand(model, batch)
    method = IdentityPenalty(0.25, spectral=True)
    method.prepare(model, context(model))
    output = model(batch)
    step = Step("classification", batch, torch.zeros(2), [0, 1], output, torch.zeros(()), 0.0, model)
    penalty = method.loss(step)
    # H = 32, d = 8, F = 128: 1,048 parameters a head, 4,224 attention, 8,352 the FFN, 12,704 a layer.
    share = {"head": 1048 / 12704, "attention": 4224 / 12704, "ffn": 8352 / 12704}
    by_share = sum(share[mapping.kind] * size for mapping, size in expected.items())
    assert penalty.item() == pytest.approx(0.25 * by_share, rel=1e-4)
    penalty.backward()
    scale = model.layers[3].ffn.out.parametrizations.weight[0].scale
    assert scale.grad > 0, "a smaller scale, a smaller norm"
    method.finish(model, context(model))
    assert attached(model) == []
    with torch.no_grad():
        assert by_hand(model, batch) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("spectral", [True, False])
def test_the_penalty_makes_norms_smaller(spectral: bool) -> None:
    sizes = []
    for penalty in (0.0, 10.0):
        model = tiny_encoder()
        chosen = context(tiny_encoder(), epochs=2)
        method = IdentityPenalty(penalty, spectral)
        method.prepare(model, chosen)
        train_round(model, [method], chosen, "penalty", share=1)
        method.finish(model, chosen)
        found = function_norms(model, [padded()])
        sizes.append(sum(found.values()))
    assert sizes[1] < 0.95 * sizes[0]


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_what_goes_is_really_gone(share: float) -> None:
    teacher = tiny_encoder().eval()
    student = built(f"identity-prior:share={share}", teacher)
    total = sum(parameter.numel() for parameter in student.parameters())
    assert total == encoder_parameters(student.config)
    left = share * 4 * 12704 - (encoder_parameters(teacher.config) - total)
    # Less than a head, with its block's bias, too much.
    assert left > -(1048 + 32)
    for layer, config in zip(student.layers, student.config.layers, strict=True):
        assert isinstance(layer.ffn, NormOnly) == (config.ffn_size == 0)
        assert isinstance(layer.attention_out, NormOnly) == (config.heads == 0)
        # Nothing that is left would have fitted: an FFN, a head, or a last head with its block's bias.
        assert config.ffn_size == 0 or left < 8352
        alone = sum(other.heads for other in student.config.layers) == config.heads == 1
        assert config.heads == 0 or alone or left < 1048 + (32 if config.heads == 1 else 0)


def test_it_trains_before_and_after_the_cut() -> None:
    teacher = tiny_encoder().eval()
    (stage,) = Recipe.parse("identity-prior:penalty_share=0.75").stages
    student, training = run_stage(stage, teacher, context(teacher, epochs=4))
    assert [(entry.stage, entry.epochs) for entry in training] == [
        ("identity-prior penalty", 3.0),
        ("identity-prior:penalty_share=0.75", 1.0),
    ]
    assert training[1].figures["heads kept"] == sum(layer.heads for layer in student.config.layers)
    assert attached(student) == []


def test_mappings_that_are_gone_already_are_no_candidates() -> None:
    once = built("identity-prior:share=0.5")
    left = ResidualMappings(once).mappings
    assert len([m for m in left if m.kind == "ffn"]) == sum(
        layer.ffn_size > 0 for layer in once.config.layers
    )
    twice = built("identity-prior:share=0.4", once)
    assert encoder_parameters(twice.config) < encoder_parameters(once.config)
