"""The convolutional student: operations and cells held against torch's functions, its sizes, what a search keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from harness.models.batch import Batch
from harness.models.config import HeadConfig
from harness.models.factory import make_model
from harness.models.flops.counting import count_flops
from harness.models.students.config import FIXED_CELL, OPERATIONS, ConvolutionalConfig, Genotype
from harness.models.students.convolutional import (
    AveragePool,
    Cell,
    Convolution,
    Convolutional,
    MaxPool,
    TokenNorm,
    attended,
    cell_of,
    windows,
)
from harness.profiling.costs.components import component_params
from methods.distillation._architecture_search import Choice, Mixture, Search, genotype_of
from tests.support.tiny_stages import draw

C, N, B = 3, 7, 4
LENGTHS = torch.tensor([7, 4, 1, 0])


def present_of(lengths: Tensor, longest: int = N) -> Tensor:
    return (torch.arange(longest) < lengths[:, None]).float()[..., None]


def filled(module: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter drawn, and no variance at or below 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.normal_(0, 0.5, generator=generator)
            if name.endswith("variance"):
                parameter.abs_().add_(0.5)
    return module.eval()


def everywhere(rows: int = B) -> Tensor:
    return torch.ones(rows, N, 1)


def test_windows_by_hand() -> None:
    states = torch.tensor([1.0, 2, 3, 4])[None, :, None]
    assert [w.flatten().tolist() for w in windows(states, 3)] == [[0, 1, 2, 3], [1, 2, 3, 4], [2, 3, 4, 0]]
    dilated = [w.flatten().tolist() for w in windows(states, 3, dilation=2)]
    assert dilated == [[0, 0, 1, 2], [1, 2, 3, 4], [3, 4, 0, 0]]


@pytest.mark.parametrize("width", [3, 5, 7])
@pytest.mark.parametrize("dilation", [1, 2])
def test_convolutions_are_torch_s(width: int, dilation: int) -> None:
    module, states = filled(Convolution(C, width, dilation)), draw(B, N, C, seed=1)
    norm = module.norm
    weight = module.dense.weight.view(C, width, C).transpose(1, 2)
    reach = dilation * (width - 1) // 2
    wanted = F.conv1d(F.relu(states).transpose(1, 2), weight, padding=reach, dilation=dilation)
    wanted = F.batch_norm(wanted, norm.mean, norm.variance, norm.weight, norm.bias).transpose(1, 2)
    assert torch.allclose(module(states, everywhere()), wanted, atol=1e-5)


def test_statistics_are_those_of_the_tokens() -> None:
    """As torch's batch normalisation of the tokens alone, running statistics and gradients included."""
    ours, theirs = TokenNorm(C).train(), nn.BatchNorm1d(C)
    present = present_of(LENGTHS)
    for seed in range(3):
        states = draw(B, N, C, seed=seed)
        tokens = states[present[..., 0] == 1].requires_grad_()
        padded = states.clone()
        padded[present[..., 0] == 0] = 1e6
        padded.requires_grad_()
        found = ours(padded, present)[present[..., 0] == 1]
        wanted = theirs(tokens)
        assert torch.allclose(found, wanted, atol=1e-5)
        (found**3).sum().backward()
        (wanted**3).sum().backward()
        assert padded.grad is not None
        assert tokens.grad is not None
        assert torch.allclose(padded.grad[present[..., 0] == 1], tokens.grad, atol=1e-4)
    assert torch.allclose(ours.mean, theirs.running_mean, atol=1e-6)  # type: ignore[arg-type]
    assert torch.allclose(ours.variance, theirs.running_var, atol=1e-6)  # type: ignore[arg-type]
    states = draw(B, N, C, seed=3)
    assert torch.allclose(
        ours.eval()(states, present).flatten(0, 1), theirs.eval()(states.flatten(0, 1)), atol=1e-6
    )


def test_no_tokens_have_no_statistics() -> None:
    norm = TokenNorm(C).train()
    assert torch.isfinite(norm(draw(2, N, C), torch.zeros(2, N, 1))).all()
    assert norm.mean.tolist() == [0] * C
    assert norm.variance.tolist() == [1] * C


def test_pools_are_torch_s() -> None:
    states = draw(B, N, C)
    across = F.relu(states).transpose(1, 2)
    largest = F.max_pool1d(across, 3, stride=1, padding=1).transpose(1, 2)
    mean = F.avg_pool1d(across, 3, stride=1, padding=1, count_include_pad=False).transpose(1, 2)
    assert torch.equal(MaxPool()(states, everywhere()), largest)
    assert torch.allclose(AveragePool()(states, everywhere()), mean, atol=1e-6)


def test_attention_by_hand() -> None:
    """Weights in the ratio 1 : 3 of 8 and 4."""
    found = attended([torch.full((2, 1), 8.0), torch.full((2, 1), 4.0)], torch.tensor([1.0, 3.0]).log())
    assert torch.allclose(found, torch.full((2, 1), 0.25 * 8 + 0.75 * 4))


BY_HAND: Genotype = (
    ((0, "conv3"), (1, "max-pool")),
    ((1, "zero"), (2, "dilated5")),
    ((0, "identity"), (3, "avg-pool")),
)


def test_a_cell_by_hand() -> None:
    cell = filled(cell_of(BY_HAND, C))
    assert isinstance(cell, Cell)
    before, last, present = draw(B, N, C), draw(B, N, C, seed=1), present_of(LENGTHS)
    before, last = before * present, last * present
    conv, dilated = cell.nodes[0].edges[0], cell.nodes[1].edges[1]

    def convolved(module: Any, states: Tensor, width: int, dilation: int) -> Tensor:
        weight = module.dense.weight.view(C, width, C).transpose(1, 2)
        across = F.relu(states).transpose(1, 2)
        found = F.conv1d(across, weight, padding=dilation * (width - 1) // 2, dilation=dilation)
        norm = module.norm
        return F.batch_norm(found, norm.mean, norm.variance, norm.weight, norm.bias).transpose(1, 2)

    def pooled(states: Tensor) -> Tensor:
        across = F.relu(states).transpose(1, 2)
        mean = 3 * F.avg_pool1d(across, 3, stride=1, padding=1)
        count = 3 * F.avg_pool1d(present.transpose(1, 2), 3, stride=1, padding=1)
        return (mean / count.clamp_min(1)).transpose(1, 2)

    largest = F.max_pool1d(F.relu(last).transpose(1, 2), 3, stride=1, padding=1).transpose(1, 2)
    first = (convolved(conv, before, 3, 1) + largest) * present
    second = convolved(dilated, first, 5, 2) * present
    third = (before + pooled(second)) * present
    a = torch.softmax(cell.attention, 0)
    wanted = a[0] * first + a[1] * second + a[2] * third
    assert torch.allclose(cell(before, last, present), wanted, atol=1e-5)


ALL_OPERATIONS: Genotype = (
    ((0, "conv7"), (1, "avg-pool")),
    ((0, "max-pool"), (2, "dilated7")),
    ((2, "identity"), (3, "dilated3")),
)


@pytest.mark.parametrize("genotype", [FIXED_CELL, BY_HAND, ALL_OPERATIONS])
def test_padding_does_not_matter(genotype: Genotype) -> None:
    config = ConvolutionalConfig(embedding_size=5, channels=C, cells=3, genotype=genotype)
    body = filled(Convolutional(config))
    embedded, lengths = draw(B, N, 5), LENGTHS
    mask = present_of(lengths)[..., 0].long()
    together = body(torch.where(mask[..., None] == 1, embedded, torch.tensor(1e6)), mask)
    for row, length in enumerate(lengths.tolist()):
        alone = body(embedded[row : row + 1, :length], mask[row : row + 1, :length])
        assert torch.allclose(together[row : row + 1], alone, atol=1e-5)
    assert torch.equal(together[3], torch.zeros(C))


def test_a_text_s_vector_by_hand() -> None:
    """With cells that give their last input back: tanh of the mean over tokens."""
    # A node beside two zeros adds nothing, so a third of each cell's input is left.
    alone: Genotype = (((0, "zero"), (1, "identity")), ((0, "zero"), (1, "zero")), ((0, "zero"), (1, "zero")))
    body = Convolutional(ConvolutionalConfig(embedding_size=1, channels=1, cells=2, genotype=alone)).eval()
    found = body(torch.tensor([[[3.0], [6.0], [99.0]]]), torch.tensor([[1, 1, 0]]))
    assert found.item() == pytest.approx(np.tanh((4.5 + 4.5 / 3 + 4.5 / 9) / 3), rel=1e-6)


@pytest.mark.parametrize(
    ("genotype", "line"),
    [
        (FIXED_CELL[:2], "a cell has 3 nodes, not 2"),
        ((((0, "conv3"),), *FIXED_CELL[1:]), "node 2 must have 2 edges, not 1"),
        ((((0, "conv3"), (2, "conv3")), *FIXED_CELL[1:]), "node 2 reads 2, but it can read 0 to 1"),
        ((*FIXED_CELL[:2], ((1, "conv3"), (1, "conv5"))), "node 4 reads 1 twice"),
        ((((0, "conv4"), (1, "conv5")), *FIXED_CELL[1:]), "Input should be 'conv3', 'conv5'"),
    ],
)
def test_cells_that_do_not_fit(genotype: Any, line: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ConvolutionalConfig(genotype=genotype)
    assert line in caught.value.errors()[0]["msg"]


def test_a_configuration_is_json() -> None:
    config = ConvolutionalConfig(cells=3, genotype=BY_HAND)
    assert ConvolutionalConfig.model_validate_json(config.model_dump_json()) == config


def kernels(genotype: Genotype) -> list[int]:
    return [int(name[-1]) for node in genotype for _, name in node if name[-1].isdigit()]


@pytest.mark.parametrize("genotype", [FIXED_CELL, ALL_OPERATIONS])
@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("size", [6, 5])
def test_parameters_and_flops_are_those_of_the_formula(genotype: Genotype, paired: bool, size: int) -> None:
    v, p, c, k, hidden = 40, 16, 6, 2, 7
    config = ConvolutionalConfig(
        vocab_size=v,
        embedding_size=size,
        positions=p,
        channels=c,
        cells=k,
        genotype=genotype,
        classifier=hidden,
        paired=paired,
        head=HeadConfig(outputs=3),
    )
    model = make_model(config).initialize(torch.Generator().manual_seed(0)).eval()
    enter = 0 if size == c else size * c
    widths, texts = kernels(genotype), 4 if paired else 1
    wanted = {
        "embedding": v * size + p * size + 2 * size,
        "body": enter + k * (sum(w * c * c + 4 * c for w in widths) + 3) + k + 1,
        "head": texts * c * hidden + hidden + 3 * hidden + 3,
    }
    assert component_params(model) == wanted
    batch = Batch.synthetic(2, 8, v)
    if paired:
        batch.token_type_ids[:, 5:] = 1
    counted = count_flops(model, batch)
    assert counted.uncounted == ()
    per_token = enter + k * sum(widths) * c * c
    assert counted.components["body"].macs == 2 * 8 * per_token
    assert counted.components["head"].macs == 2 * (texts * c * hidden + 3 * hidden)


def test_what_stays_computes_what_was_drawn() -> None:
    """With nothing on the edges that go, the search's body and the one that is left agree."""
    config = ConvolutionalConfig(embedding_size=5, channels=C, cells=2)
    search = Search(config)
    filled(search)
    edges = {(node, source): sum(range(2, node)) + source for node in (2, 3, 4) for source in range(node)}
    logits = torch.zeros(9, len(OPERATIONS))
    logits[:, OPERATIONS.index("zero")] = 4
    for node, reads in enumerate(ALL_OPERATIONS, 2):
        for source, name in reads:
            logits[edges[node, source], OPERATIONS.index(name)] = 9
    search.choice.logits.data.copy_(logits)
    search.choice.noise.zero_()
    found = genotype_of(search.choice.logits)
    assert found == ALL_OPERATIONS
    body = search.kept(config.model_copy(update={"genotype": found}))
    embedded, mask = draw(B, N, 5), present_of(LENGTHS)[..., 0].long()
    assert torch.allclose(body(embedded, mask), search(embedded, mask), atol=1e-6)
    assert not any(isinstance(module, Mixture | Choice) for module in body.modules())
