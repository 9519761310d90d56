"""theseus and layerdrop-training: what runs in place of what, and what is left."""

from __future__ import annotations

import pytest
import torch

from harness.conformance.tiny import tiny_encoder
from harness.models.batch import Batch
from methods.structured_pruning.layerdrop_training import every_other
from methods.structured_pruning.theseus import replacement_rate
from tests.support.tiny_stages import built, context, method_of


def batch() -> Batch:
    return Batch.synthetic(2, 6, 100)


def test_the_rate_is_linear_and_then_one() -> None:
    assert replacement_rate(0, 0.3, 0.7) == 0.3
    assert replacement_rate(0.35, 0.3, 0.7) == pytest.approx(0.65)
    assert replacement_rate(0.7, 0.3, 0.7) == replacement_rate(1, 0.3, 0.7) == 1.0


def test_predecessors_run_at_rate_zero_and_successors_at_one() -> None:
    teacher = tiny_encoder().eval()
    method = method_of("theseus:layers=2")
    student = method.student(teacher, context(teacher))
    alone = student(batch()).logits if not student.training else None
    method.prepare(student, context(teacher))
    student.train()
    for module in student.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    for layer in student.layers:
        layer.rate = 0.0
    assert torch.allclose(student(batch()).logits, teacher(batch()).logits, atol=1e-6)
    for layer in student.layers:
        layer.rate = 1.0
    whole = student(batch()).logits
    assert alone is not None
    assert torch.allclose(whole, alone, atol=1e-6)
    student.eval()
    for layer in student.layers:
        layer.rate = 0.0
    assert torch.allclose(student(batch()).logits, alone, atol=1e-6), "evaluation uses successors"


def test_only_successors_are_trained() -> None:
    teacher = tiny_encoder().eval()
    student = built("theseus:layers=2,base=1", teacher, training=True)
    assert torch.equal(student.embedding.word.weight, teacher.embedding.word.weight)
    assert torch.equal(student.head.classifier.weight, teacher.head.classifier.weight)
    assert all(
        not torch.equal(student.layers[i].ffn.into.weight, teacher.layers[i].ffn.into.weight) for i in (0, 1)
    )
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert sorted(dict(student.named_parameters())) == sorted(
        name for name, _ in teacher.named_parameters() if not name.startswith(("layers.2", "layers.3"))
    )


def test_skipped_layers_hand_their_input_on() -> None:
    teacher = tiny_encoder().eval()
    method = method_of("layerdrop-training")
    student = method.student(teacher, context(teacher))
    expected = student(batch()).logits
    method.prepare(student, context(teacher))
    assert torch.equal(student(batch()).logits, expected), "evaluation skips nothing"
    student.train()
    drawn = torch.Generator().manual_seed(0)
    runs = 400
    skipped = 0
    layer = student.layers[1]
    layer.generator = drawn
    x, mask = torch.randn(1, 3, 32), torch.ones(1, 1, 1, 3, dtype=torch.bool)
    for _ in range(runs):
        out, maps = layer(x, mask, True)
        if out is x:
            skipped += 1
            assert maps.probabilities.shape == (1, 0, 3, 3)
    # Five standard deviations of a binomial with p = 0.2.
    assert abs(skipped - 0.2 * runs) < 5 * (runs * 0.2 * 0.8) ** 0.5


def test_every_other_layer_is_kept() -> None:
    assert every_other(12, 2) == [0, 2, 4, 6, 8, 10]
    assert every_other(4, 3) == [0, 3]
    teacher = tiny_encoder().eval()
    student = built("layerdrop-training", teacher)
    assert len(student.layers) == len(student.config.layers) == 2
    assert torch.equal(student.layers[1].ffn.into.weight, teacher.layers[2].ffn.into.weight)
