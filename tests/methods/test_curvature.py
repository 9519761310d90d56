"""Top eigenvalues of Hessians, against the exact ones of matrices small enough to form."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness.compression.task_loss import task_loss
from harness.conformance.tiny import tiny_encoder
from harness.models.model import evaluating
from methods.quantization._curvature import power_iteration, sensitivity, shard_eigenvalues, top_eigenvalues
from tests.support.tiny_stages import context


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def of_largest_size(matrix: Tensor) -> float:
    values = torch.linalg.eigvalsh(matrix.double())
    return float(values[values.abs().argmax()])


@pytest.mark.parametrize(("values", "top"), [((4.0, 1.0, -2.0), 4.0), ((1.0, -5.0, 3.0), -5.0)])
def test_power_iteration_finds_the_eigenvalue_of_largest_size(
    values: tuple[float, float, float], top: float
) -> None:
    basis = torch.linalg.qr(torch.randn(3, 3, generator=generator())).Q
    matrix = basis @ torch.diag(torch.tensor(values)) @ basis.T
    start = [torch.randn(3, generator=generator(1))]
    found = power_iteration(lambda v: [matrix @ v[0]], start, iterations=60, tolerance=0.0)
    assert found == pytest.approx(top, rel=1e-4)


def test_a_vector_that_is_mapped_to_nothing_has_no_curvature() -> None:
    assert power_iteration(lambda v: [0 * v[0]], [torch.ones(3)], iterations=5, tolerance=0.0) == 0


def test_the_tolerance_ends_the_iteration() -> None:
    calls = []

    def twice(vector: list[Tensor]) -> list[Tensor]:
        calls.append(1)
        return [2 * vector[0]]

    assert power_iteration(twice, [torch.tensor([3.0, 4.0])], iterations=50, tolerance=1e-3) == pytest.approx(
        2
    )
    assert len(calls) == 2, "the first value is compared with nothing"


def test_blocks_of_a_quadratic() -> None:
    """½ (3 x² + 8 y²) + 7 x y + 2 z: the blocks are [3], [8] without the cross term, and z is linear."""
    x, y, z = (torch.tensor([v], requires_grad=True) for v in (0.3, -2.0, 1.0))
    loss = (1.5 * x**2 + 4 * y**2 + 7 * x * y + 2 * z).sum()
    assert top_eigenvalues(loss, [[x], [y], [z]], generator(), 3, 0.0) == pytest.approx([3, 8, 0])


def test_a_network_s_blocks_against_its_exact_hessian() -> None:
    first, second = nn.Linear(3, 4, bias=False), nn.Linear(4, 2, bias=False)
    with torch.no_grad():
        for number, layer in enumerate((first, second)):
            layer.weight.normal_(0, 1, generator=generator(number))
    inputs, targets = torch.randn(20, 3, generator=generator(5)), torch.arange(20) % 2

    def loss(a: Tensor, b: Tensor) -> Tensor:
        return nn.functional.cross_entropy(torch.tanh(inputs @ a.T) @ b.T, targets)

    weights = (first.weight, second.weight)
    exact = torch.autograd.functional.hessian(loss, weights)
    expected = [of_largest_size(exact[i][i].reshape(n, n)) for i, n in ((0, 12), (1, 8))]
    found = top_eigenvalues(loss(*weights), [[w] for w in weights], generator(), 300, 0.0)
    assert found == pytest.approx(expected, rel=1e-3)
    whole = torch.cat(
        [torch.cat([exact[i][j].reshape(n, -1) for j in (0, 1)], 1) for i, n in ((0, 12), (1, 8))]
    )
    together = top_eigenvalues(loss(*weights), [list(weights)], generator(), 300, 0.0)
    assert together == pytest.approx([of_largest_size(whole)], rel=1e-3)


def test_shards_of_an_encoder_against_its_exact_hessian() -> None:
    """Of a bias, which is small; the attention before it is differentiated twice."""
    model = tiny_encoder().train()
    told, name = context(model), "layers.1.attention_in.query.bias"
    bias = model.get_parameter(name)
    found = shard_eigenvalues(model, told, [[bias]], shards=2, examples=8, iterations=200, tolerance=0.0)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    expected = []
    for batch, targets in told.batches(model, 8, 2, "curvature"):

        def loss(value: Tensor) -> Tensor:
            output = torch.func.functional_call(model, {name: value}, (batch,), {"attentions": True})  # noqa: B023
            return task_loss("classification", output.logits, targets)  # noqa: B023

        with evaluating(model):
            expected.append([of_largest_size(torch.autograd.functional.hessian(loss, bias.detach()))])
    assert found.shape == (2, 1)
    assert torch.allclose(found, torch.tensor(expected), rtol=1e-2)


def test_sensitivity_by_hand() -> None:
    """Means 2 and -3, both one off in each shard."""
    assert sensitivity(torch.tensor([[1.0, -4.0], [3.0, -2.0]])).tolist() == [3.0, 4.0]
