"""block-pruning: its groups and penalty by hand, which groups go, and what the artifact leaves out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.common.errors import Code
from harness.conformance.tiny import CONFIG, tiny_encoder
from harness.models.artifacts import load_artifact, read_config, read_tensors, save_artifact
from harness.models.codecs import Codec
from harness.models.config import EncoderConfig, LayerConfig
from harness.models.encoder.encoder import Encoder
from harness.profiling.costs.size import artifact_facts
from methods.structured_pruning import block_pruning
from methods.structured_pruning.block_pruning import group_lasso, group_norms, keep_in_blocks
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context, matrices, method_of

INTO = "layers.0.ffn.into.weight"


def test_group_norms_by_hand() -> None:
    weight = torch.tensor([[3.0, 4.0, 0.0, 5.0], [6.0, 8.0, 1.0, 0.0]])
    assert group_norms(weight, (1, 2)).tolist() == [[5.0, 5.0], [10.0, 1.0]]
    assert group_norms(weight, (2, 1))[0].tolist() == pytest.approx([45**0.5, 80**0.5, 1.0, 5.0])
    assert group_norms(weight, (2, 2))[0].tolist() == pytest.approx([125**0.5, 26**0.5])


def test_the_group_lasso_and_its_gradient_by_hand() -> None:
    """Σ α ‖W_g‖ with ‖W_g‖ = 5 and 0: the gradient is α W_g / ‖W_g‖ = α (0.6, 0.8), and 0 where the group is zero."""
    weight = torch.tensor([[3.0, 4.0, 0.0, 0.0]], requires_grad=True)
    norms = {"w": group_norms(weight, (1, 2))}
    total = group_lasso(norms, {"w": torch.tensor([[0.5, 100.0]])})
    assert total.item() == 2.5
    total.backward()
    assert weight.grad is not None
    assert weight.grad[0].tolist() == pytest.approx([0.3, 0.4, 0.0, 0.0])


def test_the_penalty_is_weighted_by_the_squares_until_the_next_reweighting() -> None:
    student = tiny_encoder()
    for weight in matrices(student).values():
        weight.zero_()
    weight = student.get_parameter(INTO)
    weight.data[0, :2] = torch.tensor([0.3, 0.4])  # a piece of a row: ‖W_g‖ = 0.5
    weight.data[5, 16] = 2.0
    pruning = method_of("block-pruning:penalty=0.1,reweightings=2,end=0.5,sparsity=0.001")

    class Now:
        progress = 0.0

    pruning.prepare(student, context())
    now: Any = Now()
    found = pruning.loss(now)
    assert found is not None
    alphas = 1 / (0.25 + block_pruning.EPSILON), 1 / (4 + block_pruning.EPSILON)
    assert float(found.detach()) == pytest.approx(0.1 * (0.5 * alphas[0] + 2 * alphas[1]))
    weight.data[5, 16] = 1.0
    pruning.step(student, 0.2)  # none is due before a quarter of the training
    assert float(pruning.loss(now).detach()) == pytest.approx(0.1 * (0.5 * alphas[0] + 1 * alphas[1]))  # type: ignore[union-attr]
    pruning.step(student, 0.3)
    assert float(pruning.loss(now).detach()) == pytest.approx(  # type: ignore[union-attr]
        0.1 * (0.5 * alphas[0] + 1 / (1 + block_pruning.EPSILON))
    )
    now.progress = 0.5
    assert pruning.loss(now) is None


def test_each_block_loses_its_smallest_rows() -> None:
    """Blocks of 2 × 2 of a 4 × 4 matrix: the smaller of both rows of each block goes; the upper one of equals."""
    norms = group_norms(torch.diag(torch.tensor([1.0, 2.0, 3.0, 3.0])) + 0.1, (1, 2))
    kept = keep_in_blocks(norms, (2, 1), 0.5)
    # Norms: (1.10, 0.14), (2.10, 0.14), (0.14, 3.10), (0.14, 3.10).
    assert kept.tolist() == [[False, False], [True, True], [False, False], [True, True]]
    columns = keep_in_blocks(
        group_norms(torch.tensor([[1.0, 2.0, 4.0, 3.0], [0.0] * 4]), (2, 1)), (1, 2), 0.5
    )
    assert columns.tolist() == [[False, True, True, False]]


def pieces(weight: Tensor, direction: str, rows: int, columns: int) -> np.ndarray:
    """The weights of each group, one group a row: by slicing."""
    array = weight.numpy()
    down, across = (1, columns) if direction == "row" else (rows, 1)
    return np.array(
        [
            array[i : i + down, j : j + across].ravel()
            for i in range(0, array.shape[0], down)
            for j in range(0, array.shape[1], across)
        ]
    )


@pytest.mark.parametrize("direction", ["row", "column"])
@pytest.mark.parametrize("schedule", ["cubic", "one-shot"])
def test_whole_groups_go_until_the_sparsity_is_exact(direction: str, schedule: str) -> None:
    given = f"columns=8,direction={direction},schedule={schedule},scope=matrix,sparsity=0.6"
    student = built(f"block-pruning:{given}", training=True, batch_size=4)
    for name, weight in matrices(student).items():
        groups = pieces(weight, direction, 16, 8)
        gone = (groups == 0).all(axis=1)
        assert gone.sum() == round(0.6 * len(groups)), name
        assert (groups[~gone] != 0).all(), "no weight of a kept group is zero"


@pytest.mark.parametrize("scope", ["block", "matrix", "global"])
def test_scopes_count_over_blocks_matrices_or_all(scope: str) -> None:
    model = tiny_encoder()
    model.get_parameter(INTO).data[:16].mul_(0.01)
    student = built(f"block-pruning:scope={scope},sparsity=0.5", model)
    zeros = {name: weight == 0 for name, weight in matrices(student).items()}
    into = zeros[INTO]
    blocks = into.view(8, 16, 2, 16).float().mean(dim=(1, 3))
    assert float(torch.cat([mask.flatten() for mask in zeros.values()]).float().mean()) == 0.5
    if scope == "block":
        assert (blocks == 0.5).all()
    else:
        assert (blocks[0] == 1).all(), "the small rows go first"
        assert (float(into.float().mean()) == 0.5) == (scope == "matrix")


def test_the_smallest_groups_go_in_one_shot() -> None:
    before = matrices(tiny_encoder())
    for name, weight in matrices(built("block-pruning:columns=8,scope=matrix,sparsity=0.4")).items():
        norms = np.linalg.norm(pieces(before[name], "row", 1, 8).astype(np.float64), axis=1)
        gone = (pieces(weight, "row", 1, 8) == 0).all(axis=1)
        assert norms[gone].max() < norms[~gone].min(), name
        assert torch.equal(weight[weight != 0], before[name][weight != 0])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("cubic", [0.0, 0.0, 0.8 * 7 / 8, 0.8 * 7 / 8, 0.8]), ("one-shot", [0.0, 0.0, 0.0, 0.0, 0.8])],
)
def test_groups_go_at_reweightings_and_do_not_come_back(schedule: str, expected: list[float]) -> None:
    """Two re-weightings until 0.5: at 0.25 the cubic schedule has 1 − (1 − ½)³ of the way."""
    student = tiny_encoder()
    pruning = method_of(
        f"block-pruning:rows=8,columns=8,scope=matrix,sparsity=0.8,reweightings=2,end=0.5,schedule={schedule}"
    )
    pruning.prepare(student, context())
    dropped = torch.zeros_like(student.get_parameter(INTO), dtype=torch.bool)
    found = []
    for progress in (0.1, 0.2, 0.3, 0.4, 0.5):
        for parameter in student.parameters():
            parameter.data.add_(1e-3)
        pruning.step(student, progress if progress != 0.3 else 0.25)
        now = student.get_parameter(INTO) == 0
        assert (now | ~dropped).all(), "a group came back"
        dropped = now
        found.append(float(now.float().mean()))
    assert found == pytest.approx(expected, abs=0.002)


def test_training_with_the_penalty_makes_small_groups_smaller() -> None:
    plain, drawn = (
        built(
            f"block-pruning:columns=8,penalty={penalty_},end=1,schedule=one-shot,sparsity=0.01",
            training=True,
            batch_size=4,
            learning_rate=3e-3,
        )
        for penalty_ in (0.0, 0.05)
    )
    before = matrices(tiny_encoder())[INTO]
    small = group_norms(before, (1, 8)) < group_norms(before, (1, 8)).quantile(0.3)
    norms = [float(group_norms(matrices(model)[INTO], (1, 8))[small].mean()) for model in (plain, drawn)]
    assert norms[1] < 0.9 * norms[0]


@pytest.mark.parametrize("direction", ["row", "column"])
def test_the_artifact_is_as_small_as_the_density(direction: str, tmp_path: Path) -> None:
    student = built(f"block-pruning:direction={direction},scope=matrix,sparsity=0.75")
    save_artifact(student, tmp_path / "artifact")
    codec = "blocks(1,16)" if direction == "row" else "blocks(16,1)"
    assert read_config(tmp_path / "artifact").codecs == dict.fromkeys(student.matrix_names(), codec)
    stored = read_tensors(tmp_path / "artifact")
    for name, weight in matrices(student).items():
        assert stored[name].nbytes == weight.numel()  # a quarter of four bytes
        assert stored[f"{name}::mask"].nbytes == weight.numel() // 16 // 8
    facts, model = artifact_facts(tmp_path / "artifact"), matrices(student)
    pruned = sum(weight.numel() for weight in model.values())
    assert facts.params - facts.nonzero_params >= pruned * 0.75
    loaded = load_artifact(tmp_path / "artifact")
    assert all(torch.equal(weight, model[name]) for name, weight in matrices(loaded).items())


def test_int8_leaves_the_groups_out_too(tmp_path: Path) -> None:
    student = built("block-pruning:scope=matrix,sparsity=0.5")
    save_artifact(built("dynamic-int8", student), tmp_path / "artifact")
    stored = read_tensors(tmp_path / "artifact")
    assert read_config(tmp_path / "artifact").codecs[INTO] == "int8(channel)+blocks(1,16)"
    assert stored[INTO].nbytes == student.get_parameter(INTO).numel() // 2
    module = load_artifact(tmp_path / "artifact").get_submodule(INTO.removesuffix(".weight"))
    weight = student.get_parameter(INTO).detach()
    codec = Codec.parse("int8(channel)")
    assert torch.equal(module.weight, codec.encode(weight).values)


def test_layers_that_are_cut_afterwards_still_have_a_file(tmp_path: Path) -> None:
    """Heads of 8 are no multiple of blocks of 16: the blocks at the edge are then smaller."""
    cut = built("head-pruning:share=0.25,batches=1", built("block-pruning"))
    save_artifact(cut, tmp_path / "artifact")
    loaded = matrices(load_artifact(tmp_path / "artifact"))
    assert any(weight.shape[1] % 16 for weight in loaded.values())
    assert all(torch.equal(weight, loaded[name]) for name, weight in matrices(cut).items())


def shaped(layer: LayerConfig) -> EncoderConfig:
    return CONFIG.with_layers((CONFIG.layers[0], layer))


@pytest.mark.parametrize(
    ("recipe", "layer", "names"),
    [
        (
            "block-pruning:columns=24",
            CONFIG.layers[0],
            ["16 x 24", "query in layer 0 of 32 x 32", "rows that divide 32", "columns that divide 32"],
        ),
        (
            "block-pruning",
            LayerConfig(heads=4, head_size=8, ffn_size=100),
            ["16 x 16", "ffn_in in layer 1 of 100 x 32", "rows that divide 4", "columns that divide 4"],
        ),
        (
            "block-pruning",
            LayerConfig(heads=4, head_size=8, ffn_size=128, ranks={"key": 5}),
            ["first factor of key in layer 1 of 5 x 32"],
        ),
        (
            "block-pruning:rows=5,columns=32",
            LayerConfig(heads=4, head_size=8, ffn_size=128, ranks={"key": 5}),
            ["query in layer 0"],
        ),
    ],
)
def test_blocks_must_divide_every_matrix(recipe: str, layer: LayerConfig, names: list[str]) -> None:
    with refused(Code.OUT_OF_RANGE, *names):
        method_of(recipe).final_shape_from(shaped(layer))


def test_factorized_matrices_are_pruned_in_both_factors() -> None:
    layer = LayerConfig(heads=4, head_size=8, ffn_size=128, ranks={"ffn_in": 16})
    config = shaped(layer)
    recipe = "block-pruning:scope=matrix,sparsity=0.5"
    assert method_of(recipe).final_shape_from(config) == config
    model = Encoder(config, tiny_encoder().tokenizer).initialize(torch.Generator().manual_seed(0))
    student = built(recipe, model)
    for factor in ("first", "second"):
        assert float((student.get_parameter(f"layers.1.ffn.into.{factor}.weight") == 0).float().mean()) == 0.5
