"""The elastic encoder: factorized, shared and unequal layers, and removed layers (surgery)."""

from __future__ import annotations

import copy
from itertools import product

import pytest
import torch
from torch import nn

from harness.common.errors import Code
from harness.models.config import MATRICES, EncoderConfig, LayerConfig
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.low_rank import LowRankLinear
from harness.models.surgery import keep_layers
from tests.support.encoder_models import TINY, logits, random_batch, random_weights
from tests.support.one_line_errors import refused

BATCH = random_batch([9, 4, 17], TINY.vocab_size, pairs=True)


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def factorize(model: Encoder, ranks: dict[str, int]) -> Encoder:
    """Replace the named matrices of `model` by their truncated singular value decomposition."""
    layers = tuple(layer.model_copy(update={"ranks": ranks}) for layer in model.config.layers)
    small = random_weights(model.config.with_layers(layers), 9)
    own = {name: tensor for name, tensor in model.state_dict().items() if name in small.state_dict()}
    small.load_state_dict(own, strict=False)
    for dense, low in zip(model.layers, small.layers, strict=True):
        for kind, matrix in dense.matrices().items():
            if kind not in ranks:
                continue
            u, s, v = torch.linalg.svd(matrix.weight.double(), full_matrices=False)
            r, target = ranks[kind], low.matrices()[kind]
            assert isinstance(target, LowRankLinear)
            target.first.weight.data = v[:r].float()
            target.second.weight.data = (u[:, :r] * s[:r]).float()
            target.second.bias.data = matrix.bias.data.clone()
    return small


def test_full_rank_computes_the_same(tiny: Encoder) -> None:
    same = factorize(tiny, dict.fromkeys(MATRICES, 24))
    assert (logits(same, BATCH) - logits(tiny, BATCH)).abs().max() <= 1e-5
    assert all(isinstance(m, LowRankLinear) for layer in same.layers for m in layer.matrices().values())


@pytest.mark.parametrize("kind", MATRICES)
def test_each_matrix_has_its_own_rank(kind: str, tiny: Encoder) -> None:
    low = factorize(tiny, {kind: 5})
    inputs, outputs = {"ffn_in": (24, 40), "ffn_out": (40, 24)}.get(kind, (24, 24))
    assert count(tiny) - count(low) == 2 * (inputs * outputs - 5 * (inputs + outputs))
    names = [name for name, of in low.matrix_names().items() if of == kind]
    assert len(names) == 4
    assert sum(name.endswith((".first.weight", ".second.weight")) for name in names) == 4
    # Exactly the low-rank product, in place of the matrix.
    product_ = copy.deepcopy(tiny)
    for layer, other in zip(product_.layers, low.layers, strict=True):
        factors = other.matrices()[kind]
        layer.matrices()[kind].weight.data = factors.second.weight.data @ factors.first.weight.data
    assert (logits(low, BATCH) - logits(product_, BATCH)).abs().max() <= 1e-5
    assert (logits(low, BATCH) - logits(tiny, BATCH)).abs().max() > 1e-4


def test_factorized_embedding() -> None:
    low = random_weights(TINY.model_copy(update={"embedding_rank": 5}), 0)
    full, words = random_weights(TINY, 0), TINY.vocab_size
    assert count(full) - count(low) == words * 24 - (words * 5 + 5 * 24)
    state = {
        k: v for k, v in low.state_dict().items() if not k.startswith(("embedding.word", "embedding.project"))
    }
    product_ = low.embedding.word.weight.data @ low.embedding.project.weight.data.T
    full.load_state_dict({**state, "embedding.word.weight": product_})
    assert (logits(low, BATCH) - logits(full, BATCH)).abs().max() <= 1e-5


def test_heads_and_widths_may_differ_by_layer() -> None:
    shapes = ((1, 7, 5), (3, 8, 64), (4, 1, 1))
    layers = tuple(LayerConfig(heads=h, head_size=d, ffn_size=f) for h, d, f in shapes)
    model = random_weights(TINY.with_layers(layers), 0)
    with torch.inference_mode():
        output = model(BATCH, hidden_states=True, attentions=True)
    assert [tuple(a.probabilities.shape) for a in output.attentions] == [(3, h, 17, 17) for h, _, _ in shapes]
    assert {tuple(state.shape) for state in output.hidden_states} == {(3, 17, 24)}
    assert torch.isfinite(output.logits).all()
    for layer, (h, d, f) in zip(model.layers, shapes, strict=True):
        # queries, keys, values and output with biases; FFN; two norms.
        assert count(layer) == 3 * (24 * h * d + h * d) + h * d * 24 + 24 + 24 * f + f + f * 24 + 24 + 4 * 24


def test_attention_map_and_fast_attention_agree(tiny: Encoder) -> None:
    with torch.inference_mode():
        slow, fast = tiny(BATCH, attentions=True).logits, tiny(BATCH).logits
    assert (slow - fast).abs().max() <= 1e-5


def test_more_heads_are_not_the_same_function() -> None:
    """Head size scales the scores: two heads of 12 and one of 24 must differ, on equal weights."""
    one, two = (
        random_weights(EncoderConfig.bert(1, 24, heads, 40, vocab_size=TINY.vocab_size, positions=32), heads)
        for heads in (1, 2)
    )
    two.load_state_dict(one.state_dict())
    assert (logits(one, BATCH) - logits(two, BATCH)).abs().max() > 1e-4


def shared(groups: tuple[int, ...], seed: int = 0) -> Encoder:
    """Make a layer for each entry; equal entries share weights."""
    shape = TINY.layers[0]
    first: dict[int, int] = {}
    layers = []
    for index, group in enumerate(groups):
        source = first.setdefault(group, index)
        layers.append(shape.model_copy(update={"shares_with": None if source == index else source}))
    return random_weights(TINY.with_layers(tuple(layers)), seed)


def test_shared_layers_are_one_and_count_once() -> None:
    model, plain = shared((0, 1, 0, 1)), random_weights(TINY, 0)
    assert model.layers[0] is model.layers[2]
    assert model.layers[1] is model.layers[3]
    assert count(model) == count(plain)
    assert len(model.matrix_names()) == 12
    assert all(name.startswith(("layers.0.", "layers.1.")) for name in model.matrix_names())
    assert [path for _, path, _ in model.components()][9] == "layers.2.attention_in"


def test_sharing_equals_copies() -> None:
    """An encoder with ALBERT's sharing computes the same as one with four equal layers."""
    model = shared((0, 0, 1, 1))
    untied = random_weights(TINY.with_layers(TINY.layers[:1] * 4), 5)
    untied.load_state_dict(model.state_dict())
    assert torch.equal(logits(model, BATCH), logits(untied, BATCH))
    assert count(untied) == count(model) + 2 * count(model.layers[0])


def test_gradients_of_shared_layers_add_up() -> None:
    model = shared((0, 0))
    untied = random_weights(TINY.with_layers(TINY.layers[:1] * 2), 5)
    untied.load_state_dict(model.state_dict())
    for encoder in (model, untied):
        encoder(BATCH).logits.square().sum().backward()
    first, second = untied.layers
    for name, parameter in model.layers[0].named_parameters():
        both = first.get_parameter(name).grad + second.get_parameter(name).grad
        assert torch.allclose(parameter.grad, both, rtol=1e-4, atol=1e-6), name


def test_keep_layers_keeps_the_first(tiny: Encoder) -> None:
    with torch.inference_mode():
        states = tiny(BATCH, hidden_states=True).hidden_states
        cut = keep_layers(tiny, [0]).eval()(BATCH, hidden_states=True).hidden_states
    assert len(cut) == 2
    for one, other in zip(cut, states, strict=False):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kept", [[1, 3], [3, 1], [2], [0, 0], [0, 1, 2, 3]])
def test_keep_layers_takes_any_order(kept: list[int]) -> None:
    shapes = tuple(LayerConfig(heads=2, head_size=12, ffn_size=40 + i) for i in range(4))
    model = random_weights(TINY.with_layers(shapes), 0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    student = keep_layers(model, kept)
    assert student.config.layers == tuple(shapes[i] for i in kept)
    assert student.tokenizer is model.tokenizer
    assert student.origin == model.origin
    for (place, source), name in product(enumerate(kept), model.layers[0].state_dict()):
        assert torch.equal(student.layers[place].state_dict()[name], model.layers[source].state_dict()[name])
    for part in ("embedding", "head"):
        for name, tensor in getattr(model, part).state_dict().items():
            assert torch.equal(getattr(student, part).state_dict()[name], tensor)
    # The student is a copy: changing it does not change the model.
    for parameter in student.parameters():
        parameter.data.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("kept", [[], [2], [-1], [0, 7]])
def test_keep_layers_refuses_what_is_not_there(kept: list[int], tiny: Encoder) -> None:
    with refused(Code.OUT_OF_RANGE, str(kept), "0 … 1"):
        keep_layers(tiny, kept)


def test_keep_layers_of_shared_ones() -> None:
    model = shared((0, 1, 0))
    assert len(keep_layers(model, [0, 1]).layers) == 2
    with refused(Code.WRONG_SHAPE):
        keep_layers(model, [1, 2])
