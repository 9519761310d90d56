"""layer-drop, head-pruning, svd, embedding-factorization and albert: their rules worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from harness.compression.task_loss import task_loss
from harness.conformance.tiny import tiny_encoder
from methods.parameter_sharing.albert import groups_of_layers
from methods.structured_pruning.head_pruning import head_importance, least_important
from methods.structured_pruning.layer_drop import contributions, layers_to_keep
from tests.support.tiny_stages import built, context


@pytest.mark.parametrize(
    ("available", "dropped", "strategy", "kept"),
    [
        (12, 6, "top", [0, 1, 2, 3, 4, 5]),
        (12, 6, "bottom", [6, 7, 8, 9, 10, 11]),
        (12, 4, "alternate", [0, 1, 2, 3, 4, 6, 8, 10]),
        (12, 6, "alternate", [0, 2, 4, 6, 8, 10]),
        (12, 7, "alternate", [0, 2, 4, 6, 8]),
        (12, 4, "symmetric", [0, 1, 2, 3, 8, 9, 10, 11]),
        (6, 3, "symmetric", [0, 1, 5]),
        (6, 1, "top", [0, 1, 2, 3, 4]),
        (2, 1, "alternate", [0]),
    ],
)
def test_the_layers_that_stay(available: int, dropped: int, strategy: str, kept: list[int]) -> None:
    assert layers_to_keep(available, dropped, strategy) == kept


def test_a_layer_that_changes_nothing_contributes_nothing() -> None:
    teacher = tiny_encoder().eval()
    with torch.no_grad():
        for name, parameter in teacher.layers[2].named_parameters():
            if "norm.weight" in name:
                parameter.fill_(1.0)
            elif "attention_out" in name or "ffn.out" in name or "norm.bias" in name:
                parameter.zero_()
        # The layer before ends in a norm of mean 0 and variance 1, which the empty layer's norms leave as it is.
        teacher.layers[1].ffn.norm.weight.fill_(1.0)
        teacher.layers[1].ffn.norm.bias.zero_()
    found = contributions(teacher, context(teacher))
    assert found[2].abs() < 1e-5
    assert (found[[0, 1, 3]] > 1e-3).all()
    student = built("layer-drop:drop=1,strategy=contribution", teacher)
    expected = [teacher.layers[index].ffn.into.weight for index in (0, 1, 3)]
    assert all(
        torch.equal(layer.ffn.into.weight, w) for layer, w in zip(student.layers, expected, strict=True)
    )


def test_importance_is_the_mean_over_examples_of_the_gate_s_gradient() -> None:
    """Against a central difference of each example's loss in one head's output map."""
    teacher = tiny_encoder().double().eval()
    chosen = context(teacher, examples=5)
    importance = head_importance(teacher, chosen, batches=8, size=3)
    layer, head, step = 1, 2, 1e-4
    size = teacher.config.layers[layer].head_size
    columns = slice(head * size, (head + 1) * size)
    total = torch.zeros((), dtype=torch.double)
    for batch, targets in chosen.batches(teacher, 1):
        losses = []
        for sign in (1, -1):
            moved = tiny_encoder().double().eval()
            with torch.no_grad():
                moved.layers[layer].attention_out.dense.weight[:, columns] *= 1 + sign * step
                losses.append(task_loss("classification", moved(batch).logits, targets).double())
        total += ((losses[0] - losses[1]) / (2 * step)).abs()
    assert importance[layer][head].item() == pytest.approx(float(total / 5), rel=2e-2)


def test_heads_go_by_normalised_importance_and_one_stays() -> None:
    importance: list[Tensor] = [torch.tensor([3.0, 4.0]), torch.tensor([0.06, 0.08, 0.0])]
    alive = [[0, 1], [0, 2, 3]]
    # Over their layers' norms: 0.6, 0.8 and 0.6, 0.8, 0.
    assert least_important(importance, alive, 1, 1) == [[0, 1], [0, 2]]
    assert least_important(importance, alive, 3, 1) == [[1], [2]]
    assert least_important(importance, alive, 5, 1) == [[1], [2]]
    assert least_important(importance, alive, 5, 0) == [[], []]
    assert alive == [[0, 1], [0, 2, 3]]


def test_the_share_of_heads_that_goes() -> None:
    student = built("head-pruning:share=0.5,batches=1")
    assert sum(layer.heads for layer in student.config.layers) == 8
    assert all(layer.heads >= 1 for layer in student.config.layers)


def test_svd_without_training_is_the_nearest_of_its_rank() -> None:
    teacher = tiny_encoder().eval()
    student = built("svd:rank=5", teacher)
    for ours, theirs in zip(student.layers, teacher.layers, strict=True):
        for kind, matrix in ours.matrices().items():
            whole = theirs.matrices()[kind].weight
            error = (matrix.second.weight @ matrix.first.weight - whole).norm()
            beyond = torch.linalg.svdvals(whole.detach())[5:].square().sum().sqrt()
            assert torch.allclose(error, beyond, rtol=1e-4)


def test_svd_distils_what_the_factors_lose() -> None:
    from methods.matrix_decomposition.svd import SVD

    teacher = tiny_encoder().eval()
    losses = []
    for rank in (4, 31):
        student = built(f"svd:rank={rank}", teacher)
        seen: list[float] = []

        class Seen(SVD):
            def loss(self, step: Any) -> Tensor | None:
                found = super().loss(step)
                assert found is not None
                seen.append(float(found.detach()))  # noqa: B023 - used before the next round
                return found

        from harness.compression.training import train

        method, told = Seen(SVD.Options(rank=rank)), context(teacher, learning_rate=1e-9)
        method.prepare(student, told)
        train(student, [method], told, "svd")
        losses.append(seen[0])
    assert losses[0] > losses[1] > 0


def test_embedding_factorization_keeps_the_table_s_best_part() -> None:
    teacher = tiny_encoder().eval()
    student = built("embedding-factorization:rank=8", teacher)
    table = student.embedding.project(student.embedding.word.weight)
    whole = teacher.embedding.word.weight.detach()
    beyond = torch.linalg.svdvals(whole)[8:].square().sum().sqrt()
    assert torch.allclose((table - whole).norm(), beyond, rtol=1e-4)


def test_groups_of_layers() -> None:
    assert groups_of_layers(6, 1) == [[0, 1, 2, 3, 4, 5]]
    assert groups_of_layers(6, 3) == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(("init", "members"), [("mean", [0, 1]), ("first", [0]), ("chosen,chosen=1", [1])])
def test_shared_layers_start_from_what_is_said(init: str, members: list[int]) -> None:
    teacher = tiny_encoder().eval()
    student = built(f"albert:groups=2,init={init}", teacher)
    assert student.layers[1] is student.layers[0]
    assert student.layers[3] is student.layers[2]
    assert student.layers[2] is not student.layers[0]
    for start in (0, 2):
        expected = torch.stack([teacher.layers[start + i].ffn.out.weight for i in members]).mean(0)
        assert torch.allclose(student.layers[start].ffn.out.weight, expected)
