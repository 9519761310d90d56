"""quant-noise: the noise, the trained tables and what the artifact holds, worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from harness.common.errors import Code
from harness.conformance.tiny import tiny_encoder
from harness.models.artifacts import load_artifact, read_config, save_artifact
from harness.models.codecs import Codec, Groups, Int8, Product
from harness.models.int8_linear import Int8Linear
from harness.models.parametrization import attach, attached, bake, trained_weights
from harness.models.surgery import factorize, factorize_embedding
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from methods.quantization._quantization_noise import (
    BlockNoise,
    Draws,
    InputNoise,
    RoundingNoise,
    TrainedTable,
)
from methods.quantization.quant_noise import group_weights, row_widths
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import context, draw, method_of

FFN, WORDS, QUERY = "layers.0.ffn.into.weight", "embedding.word.weight", "layers.0.attention_in.query.weight"


def draws(seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed))


def test_block_noise_zeroes_blocks_and_lets_the_others_grow() -> None:
    """With p = 0.2 a block of 1s becomes 0 or 1 / 0.8 = 1.25; its mean over many passes stays 1."""
    weight = torch.ones(50, 12, requires_grad=True)
    noise = BlockNoise(4, 0.2, draws())
    passes = [noise(weight) for _ in range(40)]
    blocks = torch.stack(passes).detach().view(40, -1, 4)
    assert torch.equal(blocks, blocks[..., :1].expand_as(blocks)), "a block is whole"
    assert blocks.unique().tolist() == [0.0, 1.25]
    assert not torch.equal(passes[0], passes[1]), "another part in each pass"
    # 6000 blocks: the share dropped is 0.2 within six of its standard deviations.
    assert float((blocks[..., 0] == 0).float().mean()) == pytest.approx(0.2, abs=6 * (0.16 / 6000) ** 0.5)
    (passes[0] * torch.arange(12.0)).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.arange(12.0).expand(50, 12)), "zeroed blocks learn too"
    assert torch.equal(noise.eval()(weight), weight)
    assert torch.equal(weight, torch.ones(50, 12))


def test_rounding_noise_hits_a_share_in_training_and_everything_in_evaluation() -> None:
    """Int8 with a step of 1: of 0.4 and 127, 0.4 becomes 0 where it is hit."""
    weight = torch.full((100, 101), 0.4)
    weight[:, 0] = 127
    weight.requires_grad_()
    noise = RoundingNoise(Int8("channel"), 0.3, draws())
    seen = noise(weight)
    inner = seen.detach()[:, 1:]
    assert inner.unique().tolist() == pytest.approx([0.0, 0.4])
    assert float((inner == 0).float().mean()) == pytest.approx(0.3, abs=6 * (0.21 / 10_000) ** 0.5)
    seen.sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.ones_like(weight))
    whole = noise.eval()(weight)
    assert not whole[:, 1:].any()
    assert torch.equal(whole[:, 0], weight[:, 0])


def test_a_share_of_one_is_quantization_aware_training_and_of_none_is_nothing() -> None:
    weight, stage = draw(6, 8, seed=3), Groups(4, 6)
    codec = Codec((stage,))
    rounded = codec.decode(codec.encode(weight), weight.shape)
    assert torch.equal(RoundingNoise(stage, 1.0, draws())(weight), rounded)
    assert torch.equal(RoundingNoise(stage, 0.0, draws())(weight), weight)
    assert torch.equal(BlockNoise(4, 0.0, draws())(weight), weight)


def test_inputs_are_rounded_as_the_kernel_rounds_them() -> None:
    linear, x = nn.Linear(16, 5), draw(3, 7, 16, seed=3)
    quantized = Codec.parse("int8(channel)").encode(linear.weight)
    kernel = Int8Linear(quantized.values, quantized.beside["scale"], linear.bias.detach())
    with torch.no_grad():
        linear.weight.copy_(Codec.parse("int8").decode(quantized, linear.weight.shape))
    noise = InputNoise(0.5, draws())
    handle = linear.register_forward_pre_hook(noise.hook)
    linear.eval()
    assert torch.allclose(linear(x), kernel(x), atol=1e-5)
    linear.train()
    (seen,) = noise.hook(linear, (x,))
    assert 0.2 < float((seen == x).float().mean()) < 0.8
    handle.remove()


def test_a_trained_table_averages_the_gradients_of_its_blocks() -> None:
    """Blocks a, b, a: the gradient of a is the mean of both places, that of b its own."""
    weight = torch.tensor([[1.0, 2.0, 3.0, 4.0, 1.0, 2.0]])
    trained = TrainedTable(Product(2, 2), weight)
    assert trained.relative_error == 0
    seen = trained(torch.zeros_like(weight))
    assert torch.equal(seen, weight)
    (seen * torch.tensor([[1.0, 2.0, 5.0, 7.0, 3.0, 10.0]])).sum().backward()
    assert trained.table.grad is not None
    by_block = {tuple(t.tolist()): g.tolist() for t, g in zip(trained.table, trained.table.grad, strict=True)}
    assert by_block == {(1.0, 2.0): [2.0, 6.0], (3.0, 4.0): [5.0, 7.0]}


def test_the_error_that_is_recorded() -> None:
    """Blocks (0), (2) and (9): with two entries of means 1 and 9, Σ(w − ŵ)² = 2 of Σw² = 85."""
    assert TrainedTable(Product(1, 2), torch.tensor([[0.0, 2.0, 9.0]])).relative_error == pytest.approx(
        2 / 85
    )


def test_a_trained_table_is_seen_as_it_is_stored() -> None:
    trained = TrainedTable(Product(2, 4), draw(8, 8, seed=3))
    with torch.no_grad():
        trained.table.add_(1e-5)
    seen = trained(torch.zeros(8, 8)).detach()
    codec = Codec((Product(2, 4),))
    assert torch.equal(codec.decode(codec.encode(seen), seen.shape), seen)


def test_noise_never_reaches_the_trained_weights() -> None:
    """Whatever forward does, the weights that the optimizer holds change by its steps alone."""
    for recipe in ("quant-noise", "quant-noise:quantizer=int4"):
        model = tiny_encoder()
        names = [FFN, WORDS, QUERY]
        before = {name: model.get_parameter(name).detach().clone() for name in names}
        instance = method_of(recipe)
        instance.prepare(model, context(model))
        model.train()
        noised = model.get_submodule("layers.0.ffn.into").weight
        assert not torch.equal(noised, before[FFN])
        model(next(context(model).batches(model, 4, 1))[0]).logits.sum().backward()
        after = trained_weights(model, names)
        assert all(torch.equal(after[name], before[name]) for name in names)
        assert all(after[name].grad is not None for name in names)


def test_product_quantization_goes_group_by_group(tmp_path: Path) -> None:
    teacher = tiny_encoder().eval()
    (stage,) = Recipe.parse("quant-noise:entries=16,tuning_share=0.667").stages
    student, log = run_stage(stage, teacher, context(teacher, epochs=3))
    names = ("ffn", "embedding", "attention")
    assert [entry.stage for entry in log[1:]] == [
        f"quant-noise phase {place} of 3: {kind}" for place, kind in enumerate(names, 1)
    ]
    assert [entry.steps for entry in log] == [3, 2, 2, 2]
    assert set(log[0].figures) == {f"{kind}_quantization_error" for kind in names}
    assert all(0 < value < 1 for value in log[0].figures.values())
    assert attached(student) == []
    save_artifact(student, tmp_path / "artifact")
    codecs = read_config(tmp_path / "artifact").codecs
    assert codecs[FFN] == codecs[WORDS] == "product(8,16,float16)+pack(4)"
    assert codecs[QUERY] == "product(4,16,float16)+pack(4)"
    assert codecs["head.pooler.weight"] == codecs["layers.0.ffn.norm.bias"] == "cast(float16)"
    loaded = load_artifact(tmp_path / "artifact")
    for name, block in ((FFN, 8), (WORDS, 8), (QUERY, 4)):
        held = loaded.get_parameter(name)
        assert torch.equal(held, student.get_parameter(name)), "what training saw last is what is held"
        assert len(held.detach().view(-1, block).unique(dim=0)) <= 16


def test_tables_and_float_matrices_learn_in_the_phases() -> None:
    """After the first phase attention has moved while the feed-forward codes stayed."""
    teacher = tiny_encoder().eval()
    student = tiny_encoder()
    instance, own = method_of("quant-noise:entries=16,noise=0"), context(teacher)
    instance.prepare(student, own)
    before = {name: p.detach().clone() for name, p in trained_weights(student, [FFN, QUERY]).items()}
    with torch.no_grad():
        instance.finish(student, own)
    untuned = Codec((Product(8, 16),))
    first = untuned.decode(untuned.encode(before[FFN]), before[FFN].shape)
    codes, later = (untuned.encode(t).values for t in (first, student.get_parameter(FFN)))
    pairs = torch.stack([codes.flatten(), later.flatten()], 1).unique(dim=0)
    assert len(pairs) == len(codes.unique()), "the same blocks still share a code"
    assert not torch.equal(student.get_parameter(FFN), first), "the table has learned"
    assert instance.learning_rate("layers.0.ffn.into.parametrizations.weight.0.table") == 1e-3
    assert instance.learning_rate(FFN) is None


def test_nothing_is_trained_where_nothing_may_be() -> None:
    teacher = tiny_encoder().eval()
    (stage,) = Recipe.parse("quant-noise:entries=16").stages
    student, log = run_stage(stage, teacher, context(teacher, shapes_only=True))
    assert log == []
    assert torch.equal(student.get_parameter(FFN), teacher.get_parameter(FFN))
    assert str(student.storage.codecs[FFN]) == "product(8,16,float16)+pack(4)"


@pytest.mark.parametrize(
    ("recipe", "codec"),
    [
        ("quant-noise:quantizer=int8", "int8(channel)"),
        ("quant-noise:quantizer=int8,per=tensor", "int8(tensor)"),
        ("quant-noise:quantizer=int4", "groups(4,128)+pack(4)"),
        ("quant-noise:quantizer=int4,per=tensor", "groups(4,1)+pack(4)"),
        ("magnitude:sparsity=0.5 > quant-noise:quantizer=int8", "int8(channel)+bitmask"),
    ],
)
def test_scalar_artifacts(recipe: str, codec: str, tmp_path: Path) -> None:
    teacher = tiny_encoder().eval()
    student = teacher
    for stage in Recipe.parse(recipe).stages:
        student, _ = run_stage(stage, student, context(teacher))
    save_artifact(student, tmp_path / "artifact")
    assert read_config(tmp_path / "artifact").codecs[FFN] == codec
    loaded = load_artifact(tmp_path / "artifact")
    executes = isinstance(loaded.get_submodule("layers.0.ffn.into"), Int8Linear)
    assert executes == codec.startswith("int8")
    assert not any(module._forward_pre_hooks for module in student.modules())
    assert attached(student) == []


def test_defaults_of_the_noise() -> None:
    assert {
        text: method_of(f"quant-noise:quantizer={text}")._share for text in ("product", "int8", "int4")
    } == {
        "product": 0.2,
        "int8": 0.5,
        "int4": 0.5,
    }
    assert method_of("quant-noise:noise=0")._share == 0
    assert method_of("quant-noise:quantizer=int8,noise=1")._share == 1


def test_blocks_must_divide_every_row() -> None:
    config = tiny_encoder().config
    assert method_of("quant-noise").final_shape_from(config) == config
    assert method_of("quant-noise:quantizer=int4,block=24").final_shape_from(config) == config
    with refused(Code.OUT_OF_RANGE, "blocks of 24", "32 columns of the word embeddings"):
        method_of("quant-noise:block=24").final_shape_from(config)
    odd = config.layers[2].model_copy(update={"ffn_size": 100})
    with refused(Code.OUT_OF_RANGE, "100 columns of ffn_out in layer 2"):
        method_of("quant-noise").final_shape_from(
            config.with_layers((*config.layers[:2], odd, *config.layers[3:]))
        )


def test_low_rank_matrices_are_checked_and_quantized() -> None:
    model = factorize_embedding(tiny_encoder(), 12)
    config = model.config
    with refused(Code.OUT_OF_RANGE, "12 columns of the word embeddings"):
        method_of("quant-noise").final_shape_from(config)
    method_of("quant-noise:block=4").final_shape_from(config)
    assert "embedding.project.weight" in group_weights(model)["attention"]


def test_what_is_checked_is_what_is_quantized() -> None:
    """Columns by phase, from the configuration and from the encoder itself."""
    model = factorize(tiny_encoder(), {"ffn_in": 16}, [1])
    for encoder in (tiny_encoder(), model):
        expected = sorted((kind, width) for _, kind, width in row_widths(encoder.config))
        parameters = dict(encoder.named_parameters())
        found = sorted(
            (kind, parameters[name].shape[1])
            for kind, names in group_weights(encoder).items()
            for name in names
        )
        assert expected == found


def test_baking_takes_the_noise_away() -> None:
    model = tiny_encoder()
    weight = model.get_parameter(FFN).detach().clone()
    attach(model, FFN, BlockNoise(8, 0.5, draws()))
    model.eval()
    bake(model, FFN)
    assert torch.equal(model.get_parameter(FFN), weight)
