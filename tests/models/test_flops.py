"""FLOPs against the closed form, computed here from the configuration."""

from __future__ import annotations

import logging
import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from harness.models.artifacts import load_artifact, save_artifact
from harness.models.batch import Batch, Output
from harness.models.codecs import Codec, Int8
from harness.models.config import COMPONENTS, EncoderConfig, LayerConfig
from harness.models.encoder.encoder import Encoder
from harness.models.flops.counting import FlopCount, count_flops
from harness.models.flops.operators import einsum_macs


def matrix(inputs: int, outputs: int, rank: int | None) -> int:
    return inputs * outputs if rank is None else rank * (inputs + outputs)


def oracle(config: EncoderConfig, batch: int, n: int) -> dict[str, int]:
    """Compute multiply-adds by component: n(4HP + 2HF) + 2n²P per layer and sequence, less with ranks; the head."""
    hidden, head = config.hidden_size, config.head
    macs = dict.fromkeys(COMPONENTS, 0)
    if config.embedding_rank is not None:
        macs["embedding"] = batch * n * config.embedding_rank * hidden
    for layer in config.layers:
        width, ffn, ranks = layer.projection_size, layer.ffn_size, layer.ranks
        into = sum(matrix(hidden, width, ranks.get(kind)) for kind in ("query", "key", "value"))
        macs["attention_in"] += batch * n * into
        macs["attention"] += batch * 2 * n * n * width
        macs["attention_out"] += batch * n * matrix(width, hidden, ranks.get("attention_out"))
        macs["ffn"] += batch * n * matrix(hidden, ffn, ranks.get("ffn_in"))
        macs["ffn"] += batch * n * matrix(ffn, hidden, ranks.get("ffn_out"))
    if head.kind == "span":
        macs["head"] = batch * n * hidden * 2
    elif head.kind != "none":
        macs["head"] = batch * (hidden * head.outputs + (hidden * hidden if config.pooler else 0))
    elif config.pooler:
        macs["head"] = batch * hidden * hidden
    return macs


def random_config(seed: int) -> EncoderConfig:
    """Draw layers that differ in heads, head size, FFN size and ranks; some share the weights of an earlier one."""
    draw = random.Random(seed)
    layers: list[LayerConfig] = []
    for _ in range(draw.randint(1, 4)):
        own = [index for index, layer in enumerate(layers) if layer.shares_with is None]
        if own and draw.random() < 0.3:
            source = draw.choice(own)
            layers.append(layers[source].model_copy(update={"shares_with": source}))
            continue
        ranks = {
            kind: draw.randint(1, 9)
            for kind in ("query", "value", "ffn_in", "ffn_out")
            if draw.random() < 0.3
        }
        size, ffn = draw.choice((4, 7, 16)), draw.randint(3, 70)
        layers.append(LayerConfig(heads=draw.randint(1, 5), head_size=size, ffn_size=ffn, ranks=ranks))
    kind, outputs = draw.choice((("classification", 3), ("regression", 1), ("span", 2), ("none", 2)))
    return EncoderConfig.model_validate(
        {
            "vocab_size": 50,
            "hidden_size": draw.choice((12, 24, 31)),
            "embedding_rank": draw.choice((None, 5)),
            "positions": 40,
            "layers": layers,
            "head": {"kind": kind, "outputs": outputs},
            "activation": draw.choice(("gelu", "relu", "gelu_tanh")),
            "pooler": draw.random() < 0.7,
        }
    )


def count(config: EncoderConfig, batch: int, n: int) -> FlopCount:
    return count_flops(Encoder(config), Batch.synthetic(batch, n, config.vocab_size))


def by_component(found: FlopCount) -> dict[str, int]:
    return {name: found.components[name].macs for name in COMPONENTS}


@pytest.mark.parametrize("seed", range(12))
def test_ten_random_configurations_to_the_last_unit(seed: int) -> None:
    config = random_config(seed)
    batch, n = 1 + seed % 4, 1 + 3 * seed
    found = count(config, batch, n)
    expected = oracle(config, batch, n)
    assert by_component(found) == expected
    assert found.total.macs == sum(expected.values())
    assert found.total.flops == 2 * found.total.macs
    assert found.uncounted == ()


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 40))
def test_any_configuration_to_the_last_unit(seed: int, batch: int, n: int) -> None:
    config = random_config(seed)
    assert by_component(count(config, batch, n)) == oracle(config, batch, n)


@pytest.mark.parametrize(("n", "gflops"), [(128, 22.35), (256, 45.90)])
def test_bert_base_without_its_head(n: int, gflops: float) -> None:
    found = count(EncoderConfig.bert(12, 768), 1, n)
    without_head = found.total.flops - found.components["head"].flops
    assert round(without_head / 1e9, 2) == gflops
    assert without_head == 2 * 12 * (n * (4 * 768 * 768 + 2 * 768 * 3072) + 2 * n * n * 768)


def test_shared_layers_count_each_time_they_run() -> None:
    layer = LayerConfig(heads=2, head_size=4, ffn_size=16)
    shared = layer.model_copy(update={"shares_with": 0})
    once = count(EncoderConfig(vocab_size=9, hidden_size=8, layers=(layer,)), 2, 5)
    thrice = count(EncoderConfig(vocab_size=9, hidden_size=8, layers=(layer, shared, shared)), 2, 5)
    for name in ("attention_in", "attention", "attention_out", "ffn"):
        assert thrice.components[name].macs == 3 * once.components[name].macs
        assert thrice.components[name].elementwise_flops == 3 * once.components[name].elementwise_flops
    assert thrice.components["head"] == once.components["head"]


def test_work_that_is_no_matrix_product_stays_apart() -> None:
    """The classification head has one element operation, tanh, for each pooled element."""
    found = count(EncoderConfig.bert(1, 32, heads=2, vocab_size=20), 3, 6)
    assert found.components["head"].elementwise_flops == 3 * 32
    # Residual sum and normalisation (five each) of n tokens; the FFN's activation is one each.
    assert found.components["attention_out"].elementwise_flops == 3 * 6 * 32 * (1 + 5)
    assert found.components["ffn"].elementwise_flops == 3 * 6 * (32 * (1 + 5) + 128)
    # Scaling, mask and softmax (five) of the scores.
    assert found.components["attention"].elementwise_flops == 3 * 2 * 6 * 6 * (1 + 1 + 5)
    assert found.components["attention_in"].elementwise_flops == 0


def test_int8_kernels_do_the_same_matrix_work(tmp_path: Path) -> None:
    config = EncoderConfig.bert(2, 32, heads=2, vocab_size=20, positions=32)
    model = Encoder(config).initialize(torch.Generator().manual_seed(0))
    for name in model.matrix_names():
        model.storage.codecs[name] = Codec((Int8("channel"),))
        model.storage.kernels[name.removesuffix(".weight")] = "int8"
    save_artifact(model, tmp_path / "artifact")
    found = count_flops(load_artifact(tmp_path / "artifact"), Batch.synthetic(2, 9, 20))
    plain = count(config, 2, 9)
    assert by_component(found) == oracle(config, 2, 9)
    assert found.uncounted == ()
    # Quantizing activations is extra work only in the components with matrices.
    for name in COMPONENTS:
        extra = found.components[name].elementwise_flops - plain.components[name].elementwise_flops
        assert (extra > 0) == (name in ("attention_in", "attention_out", "ffn")), name


class _WithOperator(Encoder):
    """An encoder with one more operation on its logits."""

    def __init__(self, config: EncoderConfig, extra: nn.Module) -> None:
        super().__init__(config)
        self.extra = extra

    def forward(self, batch: Batch, hidden_states: bool = False, attentions: bool = False) -> Output:
        return Output(self.extra(super().forward(batch).logits))


class _Erfinv(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.erfinv(x)


class _Written(nn.Module):
    """Attention in separate operators, as in papers' code."""

    def forward(self, x: Tensor) -> Tensor:
        scores = torch.einsum("bi,ci->bc", x, x)
        bias = torch.zeros(1, *scores.shape)
        mixed = torch.baddbmm(bias, scores[None], scores[None])[0]
        return torch.addmm(mixed, scores, scores) @ x


def test_an_operator_without_a_count_is_named() -> None:
    config = EncoderConfig.bert(1, 16, heads=1, vocab_size=20)
    found = count_flops(_WithOperator(config, _Erfinv()), Batch.synthetic(1, 3, 20))
    assert found.uncounted == ("erfinv",)


def test_other_spellings_of_matrix_products() -> None:
    config = EncoderConfig.bert(1, 16, heads=1, vocab_size=20)
    batch = Batch.synthetic(4, 3, 20)
    extra = (
        count_flops(_WithOperator(config, _Written()), batch).total.macs
        - count_flops(Encoder(config), batch).total.macs
    )
    b, labels = 4, 2
    assert extra == b * b * labels + b * b * b + b * b * b + b * b * labels


@pytest.mark.parametrize(
    ("equation", "shapes", "macs"),
    [
        ("ij,jk->ik", [[2, 3], [3, 5]], 2 * 3 * 5),
        ("ij,jk", [[2, 3], [3, 5]], 2 * 3 * 5),
        ("bnhd,bmhd->bhnm", [[2, 3, 4, 5], [2, 7, 4, 5]], 2 * 3 * 4 * 5 * 7),
        ("...ij,...jk->...ik", [[6, 2, 3], [6, 3, 5]], 6 * 2 * 3 * 5),
        ("...ij,jk->...ik", [[6, 2, 3], [3, 5]], 6 * 2 * 3 * 5),
        ("ij->ji", [[2, 3]], 0),
        ("ij,jk,kl->il", [[2, 3], [3, 5], [5, 7]], 2 * 3 * 5 + 2 * 5 * 7),
    ],
)
def test_einsum(equation: str, shapes: list[list[int]], macs: int) -> None:
    assert einsum_macs(equation, shapes) == macs


def test_nothing_is_printed_and_the_model_stays_as_it_was(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    model = Encoder(EncoderConfig.bert(1, 16, heads=1, vocab_size=20)).train()
    with caplog.at_level(logging.DEBUG, logger="fvcore"):
        count_flops(_WithOperator(model.config, _Erfinv()).train(), Batch.synthetic(1, 3, 20))
        count_flops(model, Batch.synthetic(1, 3, 20))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    assert not list(recwarn)
    assert model.training
    assert not model.layers[0]._forward_hooks


def test_padding_and_seed_do_not_matter() -> None:
    model = Encoder(EncoderConfig.bert(1, 16, heads=1, vocab_size=20))
    full = Batch.synthetic(2, 8, 20)
    padded = Batch(full.input_ids, full.attention_mask.clone(), full.token_type_ids)
    padded.attention_mask[1, 4:] = 0
    assert count_flops(model, padded) == count_flops(model, full)
