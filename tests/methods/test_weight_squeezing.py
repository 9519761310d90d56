"""weight-squeezing: units, maps and the folded student, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from harness.common.errors import Code
from harness.compression.pruning.reconstruction import (
    Moments,
    choose_units,
    group_energy,
    observe_inputs,
    reconstruction,
)
from harness.conformance.tiny import tiny_encoder, tiny_task
from harness.models.artifacts import load_artifact, save_artifact
from harness.models.batch import Batch
from harness.models.config import EncoderConfig, HashedWords
from harness.models.encoder.encoder import Encoder
from harness.models.surgery import factorize_embedding
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context, method_of


def test_moments_add_up_over_batches() -> None:
    moments = Moments(2)
    moments.add(torch.tensor([[1.0, 2.0], [3.0, 2.0]]))
    moments.add(torch.tensor([[5.0, 8.0]]))
    assert moments.mean.tolist() == [3.0, 4.0]
    # Deviations (−2, −2), (0, −2), (2, 4).
    assert torch.allclose(
        moments.covariance, torch.tensor([[8.0, 12.0], [12.0, 24.0]], dtype=torch.double) / 3
    )


def test_units_that_tell_the_most_of_all_are_chosen() -> None:
    # Unit 0 = 2 a, unit 1 = a, unit 2 = 1.5 b, unit 3 = 0 with independent a, b of variance 1.
    mixing = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 1.5], [0.0, 0.0]])
    covariance = mixing @ mixing.T
    # One of a's units explains 5 of 7.25; once one of each is taken, any other is worth nothing.
    assert choose_units(covariance, 1) in ([0], [1])
    assert [unit for unit in choose_units(covariance, 2) if unit < 2] != []
    assert 2 in choose_units(covariance, 2)
    assert len(set(choose_units(covariance, 4))) == 4


def test_the_least_squares_map_from_the_kept_units() -> None:
    rows = torch.tensor([[0.0, 1.0, 1.0], [1.0, 3.0, 1.0], [2.0, 5.0, 2.0], [3.0, 7.0, 0.0]])
    moments = Moments(3)
    moments.add(rows)
    matrix, offset = reconstruction(moments, [0], ridge=0.0)
    # Unit 1 is 1 + 2 x exactly; unit 2 has mean 1 and covariance −1/4 with a unit of variance 5/4: slope −1/5.
    assert torch.allclose(matrix, torch.tensor([[1.0], [2.0], [-0.2]], dtype=torch.double))
    assert torch.allclose(offset, torch.tensor([0.0, 1.0, 1.3], dtype=torch.double))


def test_the_energy_of_groups_of_inputs() -> None:
    covariance = torch.tensor([[4.0, 1, 9, 9], [1, 2, 9, 9], [9, 9, 1, 0], [9, 9, 0, 1]])
    weight = torch.tensor([[1.0, 1, 0, 3], [0, 2, 1, 0]])
    # Groups of two: [1 1] C [1 1]ᵀ + [0 2] C [0 2]ᵀ = 8 + 8, and 9 + 1.
    assert group_energy(covariance, weight, 2).tolist() == [16.0, 10.0]
    assert group_energy(covariance, weight).tolist() == [4.0, 10.0, 1.0, 9.0]


def test_padding_is_not_observed() -> None:
    teacher = tiny_encoder().eval()
    chosen = context(teacher, examples=6)
    moments = observe_inputs(teacher, chosen, batches=3, size=3)
    tokens = sum(int(batch.attention_mask.sum()) for batch, _ in chosen.batches(teacher, 3, 3, "inputs"))
    padded = sum(batch.attention_mask.numel() for batch, _ in chosen.batches(teacher, 3, 3, "inputs"))
    assert tokens < padded
    assert moments["layers.2.ffn.into"].count == tokens
    assert moments["head.pooler"].count == 6
    assert not any(path.endswith((".key", ".value")) for path in moments)
    assert not teacher.layers[0].ffn.into._forward_pre_hooks


def test_while_it_trains_a_weight_is_the_map_of_the_teacher_s() -> None:
    teacher = tiny_encoder().eval()
    method: Any = method_of("weight-squeezing:hidden=16,ffn=40,batches=1")
    student = method.student(teacher, context(teacher))
    for path in ("layers.1.ffn.into", "layers.1.ffn.out", "head.pooler", "layers.0.attention_in.key"):
        module, source = student.get_submodule(path), teacher.get_submodule(path).weight
        function = module.parametrizations.weight[0]
        with torch.no_grad():
            function.left.add_(0.1 * torch.ones_like(function.left))
        expected = torch.einsum("oa,ab,bi->oi", function.left, source, function.right)
        assert torch.allclose(module.weight, expected, atol=1e-5), path
    assert student.layers[1].ffn.into.weight.shape == (40, 16)
    trained = {name for name, p in student.named_parameters() if p.requires_grad}
    assert "embedding.word.weight" not in trained
    assert not any(name.endswith("original") for name in trained)
    rates = {name: method.learning_rate(name) for name in trained}
    assert rates["layers.1.ffn.into.parametrizations.weight.0.left"] == 3e-5
    assert rates["embedding.project.weight"] == 3e-5
    assert rates["layers.1.ffn.into.bias"] is None
    assert rates["layers.1.ffn.norm.weight"] is None


def test_only_maps_biases_and_norms_move_and_are_folded_in() -> None:
    teacher = tiny_encoder().eval()
    method: Any = method_of("weight-squeezing:hidden=16,batches=1")
    chosen = context(teacher)
    student = method.student(teacher, chosen)
    batch = Batch.synthetic(3, 9, 2048)
    before = student(batch).logits
    before.square().sum().backward()
    assert all(p.grad is not None for p in student.parameters() if p.requires_grad)
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter -= 0.01 * parameter.grad
    student.eval()
    expected = student(batch).logits
    with torch.no_grad():
        assert method.finish(student, chosen) is None
    assert student.config == method.final_shape_from(teacher.config)
    assert student.embedding.word.weight.shape == (2048, 16)
    names = {name for name, _ in student.named_parameters()}
    assert names == {name for name, _ in Encoder(student.config).named_parameters()}
    assert torch.allclose(student(batch).logits, expected, atol=1e-5)
    assert not torch.allclose(before, expected, atol=1e-3)


def test_nothing_is_lost_where_the_units_that_go_tell_nothing() -> None:
    """A teacher whose hidden units 16 … 31 are copies of 0 … 15, and of which half the heads and pooled units are not
    read: the small encoder computes the same before any training, norms included.
    """
    teacher = tiny_encoder().eval()
    with torch.no_grad():
        for name, parameter in teacher.named_parameters():
            residual = (
                "attention_out.dense.weight",
                "attention_out.dense.bias",
                "ffn.out.weight",
                "ffn.out.bias",
            )
            if name.endswith(residual) or ".norm." in name:
                parameter[16:] = parameter[:16]
            elif name.startswith("embedding"):
                parameter[:, 16:] = parameter[:, :16]
        for layer in teacher.layers:
            layer.attention_out.dense.weight[:, 8:24] = 0
        teacher.head.classifier.weight[:, 1::2] = 0
    student = built("weight-squeezing:hidden=16,ffn=128,batches=4", teacher)
    batch = tiny_task().dev()[:8]
    rows = teacher.encode([example.text for example in batch])
    assert float(teacher(rows).logits.detach().std()) > 0.1
    assert torch.allclose(student(rows).logits, teacher(rows).logits, atol=0.02)


def test_a_factorized_embedding_stays_so_where_that_is_smaller() -> None:
    thin, wide = (factorize_embedding(tiny_encoder(), rank).eval() for rank in (8, 20))
    small = built("weight-squeezing:hidden=16,batches=1", thin)
    assert small.config.embedding_rank == 8
    assert torch.equal(small.embedding.word.weight, thin.embedding.word.weight)
    folded = built("weight-squeezing:hidden=16,batches=1", wide)
    assert folded.config.embedding_rank is None
    assert folded.embedding.word.weight.shape == (2048, 16)
    assert folded.embedding.project is None


def test_the_artifact_is_a_plain_small_encoder(tmp_path: Any) -> None:
    student = built("weight-squeezing:hidden=16,ffn=32,batches=1", training=True)
    save_artifact(student, tmp_path / "a", "weight-squeezing", [])
    loaded = load_artifact(tmp_path / "a")
    assert [(layer.heads, layer.head_size, layer.ffn_size) for layer in loaded.config.layers] == [
        (2, 8, 32)
    ] * 4
    batch = Batch.synthetic(2, 5, 2048)
    assert torch.allclose(loaded(batch).logits, student(batch).logits, atol=1e-6)


def test_the_shape_that_is_left() -> None:
    six = EncoderConfig.bert(6, 384, heads=12)
    shape = method_of("weight-squeezing").final_shape_from(six)
    assert (shape.hidden_size, shape.embedding_rank) == (192, None)
    assert [(layer.heads, layer.head_size, layer.ffn_size) for layer in shape.layers] == [(6, 32, 768)] * 6
    base = method_of("weight-squeezing:hidden=512").final_shape_from(EncoderConfig.bert(12, 768))
    assert [(layer.heads, layer.head_size, layer.ffn_size) for layer in base.layers] == [(8, 64, 2048)] * 12
    few = six.layers[0].model_copy(update={"heads": 2, "ffn_size": 0})
    assert method_of("weight-squeezing").final_shape_from(six.with_layers((few,))).layers[0].heads == 2


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ("hidden=384", ["384", "smaller"]),
        ("hidden=500", ["384", "smaller"]),
        ("hidden=200", ["layer 0", "multiple of 32"]),
        ("ffn=2000", ["layer 0", "1536"]),
    ],
)
def test_sizes_that_cannot_be(options: str, names: list[str]) -> None:
    with refused(Code.OUT_OF_RANGE, options, *names):
        method_of(f"weight-squeezing:{options}").final_shape_from(EncoderConfig.bert(6, 384, heads=12))


def test_shared_factorized_and_empty_layers_are_refused() -> None:
    method = method_of("weight-squeezing")
    six = EncoderConfig.bert(6, 384, heads=12)
    first = six.layers[0]
    with refused("hidden units", "share weights"):
        method.final_shape_from(six.with_layers((first, first.model_copy(update={"shares_with": 0}))))
    with refused("hidden units", "layer 0", "factorized"):
        method.final_shape_from(six.with_layers((first.model_copy(update={"ranks": {"ffn_in": 8}}),)))
    with refused(Code.WRONG_SHAPE, "word embeddings"):
        method.final_shape_from(six.with_words(HashedWords()))
    with refused(Code.WRONG_SHAPE, "heads", "FFN columns"):
        method.final_shape_from(six.with_layers((first.model_copy(update={"heads": 0, "ffn_size": 0}),)))
