"""reweighted-proximal and block-pruning: their formulas by hand, the sparsity they end at, and what they refuse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.artifacts import load_artifact, read_config, read_tensors, save_artifact
from harness.build import run_stage
from harness.codecs import Codec
from harness.config import EncoderConfig, LayerConfig
from harness.conformance.tiny import BUDGET, CONFIG, tiny_encoder, tiny_task
from harness.encoder import Encoder
from harness.errors import SkylineError
from harness.method import Method
from harness.profiling.size import artifact_facts
from harness.recipe import Recipe
from harness.training import Context
from methods.structured_pruning import block_pruning
from methods.structured_pruning.block_pruning import group_lasso, group_norms, keep_in_blocks
from methods.unstructured_pruning.reweighted_proximal import EPSILON, penalty, soft_threshold

INTO = "layers.0.ffn.into.weight"


def context(**budget: Any) -> Context:
    return Context(tiny_encoder(), tiny_task().training_view(), BUDGET.model_copy(update=budget), seed=0)


def method(recipe: str) -> Method:
    [stage] = Recipe.parse(recipe).stages
    return stage.calls[0].make()


def build(recipe: str, training: bool = True, model: Encoder | None = None, **budget: Any) -> Encoder:
    [stage] = Recipe.parse(recipe).stages
    student, _ = run_stage(stage, model or tiny_encoder(), context(**budget), training=training)
    return student


def matrices(model: Encoder) -> dict[str, Tensor]:
    return {name: model.get_parameter(name).detach() for name in model.matrix_names()}


# reweighted-proximal


def test_the_soft_threshold_by_hand() -> None:
    weight = torch.tensor([0.5, -0.5, 0.25, -0.25, 0.0, 2.0])
    threshold = torch.tensor([0.125, 0.25, 0.25, 0.5, 1.0, 0.0])
    assert soft_threshold(weight, threshold).tolist() == [0.375, -0.25, 0.0, 0.0, 0.0, 2.0]


def test_the_soft_threshold_is_the_proximal_operator() -> None:
    """It minimises t |x| + (x − a)² / 2 over x: no x of a fine grid does better."""
    grid = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    for a, t in ((1.3, 0.4), (-0.2, 0.5), (-2.0, 1.0)):
        found = soft_threshold(torch.tensor(a, dtype=torch.float64), torch.tensor(t, dtype=torch.float64))
        objective = t * grid.abs() + (grid - a).square() / 2
        assert float(objective.min()) >= float(t * found.abs() + (found - a).square() / 2) - 1e-12
        assert float(found) == pytest.approx(float(grid[objective.argmin()]), abs=1e-3)


def test_a_step_divides_lambda_by_the_size_at_the_last_reweighting() -> None:
    """Ten steps, all proximal: λ = strength · q (q + ε) / 20 with q the 512 th smallest of 0.001 … 4.096, 0.512."""
    student = tiny_encoder()
    weight = student.get_parameter(INTO)
    sizes = torch.arange(1, 4097, dtype=torch.float32).view(weight.shape) / 1000
    signs = torch.where(torch.arange(4096).view(weight.shape) % 2 == 0, 1.0, -1.0)
    weight.data = sizes * signs
    pruning = method("reweighted-proximal:sparsity=0.125,strength=0.25,interval=2,end=1")
    pruning.prepare(student, context())
    share = 0.25 * 0.512 * (0.512 + EPSILON) / 20

    moved = weight.data + 0.01 * signs  # what an optimizer does: each |a| = |w_t| + 0.01
    weight.data = moved.clone()
    pruning.step(student, 0.1)
    first = (sizes.double() + 0.01 - share / (sizes.double() + EPSILON)).clamp_min(0) * signs
    assert torch.allclose(weight.data.double(), first, atol=1e-6)
    # The next step still has the first α; the one after it has that of the weights after two steps.
    pruning.step(student, 0.2)
    second = (first.abs() - share / (sizes.double() + EPSILON)).clamp_min(0)
    assert torch.allclose(weight.data.double(), second * signs, atol=1e-6)
    pruning.step(student, 0.3)
    third = (second - share / (second + EPSILON)).clamp_min(0)
    assert torch.allclose(weight.data.double().abs(), third, atol=2e-5)
    assert first[-1, -1].abs() > 4.1
    assert third[0, 0] == 0


def test_lambda_alone_brings_the_wanted_share_to_zero() -> None:
    """Without a gradient (|w| + ε)² falls by 2λ a step, so of uniform sizes a share s √(t / T) is zero at t of T."""
    student = tiny_encoder()
    weight = student.get_parameter(INTO)
    weight.data = (torch.arange(1, 4097) / 4096).view(weight.shape)
    pruning = method("reweighted-proximal:sparsity=0.5,strength=1,interval=1,end=0.8")
    pruning.prepare(student, context())
    shares = []
    for done in range(1, 400):
        pruning.step(student, done / 500)
        shares.append(float((weight == 0).float().mean()))
    assert shares == sorted(shares)
    for done, share in zip((100, 200, 399), (shares[99], shares[199], shares[398]), strict=True):
        assert share == pytest.approx(0.5 * math.sqrt(done / 400), abs=0.01)
    assert shares[398] < 0.5, "the mask does the rest"
    pruning.step(student, 0.8)
    assert int((weight == 0).sum()) == 2048
    survivors = weight.data[weight.data != 0]
    before = torch.arange(2049, 4097) / 4096
    expected = (before.square() - 0.25).clamp_min(0).sqrt()
    assert torch.allclose(survivors, expected, atol=0.03), "the larger ones shrink less"
    assert float(survivors[-1]) == pytest.approx(math.sqrt(0.75), abs=0.002)


def test_the_loss_is_left_alone() -> None:
    student = tiny_encoder()
    pruning = method("reweighted-proximal")
    pruning.prepare(student, context())
    assert pruning.loss(Any) is None  # type: ignore[arg-type]
    assert penalty(0.2, 10) == pytest.approx(0.2 * (0.2 + EPSILON) / 20)


@pytest.mark.parametrize("scope", ["matrix", "global"])
@pytest.mark.parametrize("training", [True, False])
def test_the_final_sparsity_is_exact_and_stored(scope: str, training: bool, tmp_path: Path) -> None:
    student = build(f"reweighted-proximal:sparsity=0.7,scope={scope},interval=2", training, batch_size=4)
    zeros = {name: int((weight == 0).sum()) for name, weight in matrices(student).items()}
    sizes = {name: weight.numel() for name, weight in matrices(student).items()}
    # A weight may be zero by the last step and kept by the mask, so there can be more zeros, if few.
    wanted = {name: round(0.7 * n) for name, n in sizes.items()}
    if scope == "matrix":
        assert all(wanted[name] <= count <= wanted[name] + 3 for name, count in zeros.items())
    total = round(0.7 * sum(sizes.values()))
    assert total <= sum(zeros.values()) <= total + 20
    save_artifact(student, tmp_path / "artifact")
    assert read_config(tmp_path / "artifact").codecs == dict.fromkeys(zeros, "bitmask")
    stored = read_tensors(tmp_path / "artifact")
    assert all(stored[name].numel() == sizes[name] - count for name, count in zeros.items())


def test_the_mask_holds_after_the_end() -> None:
    student = tiny_encoder()
    pruning = method("reweighted-proximal:sparsity=0.6,end=0.5")
    pruning.prepare(student, context())
    for done in range(1, 11):
        for parameter in student.parameters():
            parameter.data.add_(1e-3)
        before = student.get_parameter(INTO).detach().clone()
        pruning.step(student, done / 10)
        after = student.get_parameter(INTO).detach()
        if done == 5:
            dropped = after == 0
        if done > 5:
            assert torch.equal(after, before * ~dropped), "no more shrinking, and none comes back"
    assert float(dropped.float().mean()) == pytest.approx(0.6, abs=0.001)


def test_what_was_zero_before_the_mask_is_told() -> None:
    [stage] = Recipe.parse("reweighted-proximal:sparsity=0.5,strength=1,interval=1").stages
    _, [training] = run_stage(stage, tiny_encoder(), context(batch_size=4, learning_rate=1e-8))
    assert 0.2 < training.figures["zeros_before_mask"] < 0.5


# block-pruning


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
    pruning = method("block-pruning:penalty=0.1,reweightings=2,end=0.5,sparsity=0.001")

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
    student = build(f"block-pruning:{given}", batch_size=4)
    for name, weight in matrices(student).items():
        groups = pieces(weight, direction, 16, 8)
        gone = (groups == 0).all(axis=1)
        assert gone.sum() == round(0.6 * len(groups)), name
        assert (groups[~gone] != 0).all(), "no weight of a kept group is zero"


@pytest.mark.parametrize("scope", ["block", "matrix", "global"])
def test_scopes_count_over_blocks_matrices_or_all(scope: str) -> None:
    model = tiny_encoder()
    model.get_parameter(INTO).data[:16].mul_(0.01)
    student = build(f"block-pruning:scope={scope},sparsity=0.5", False, model)
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
    for name, weight in matrices(build("block-pruning:columns=8,scope=matrix,sparsity=0.4", False)).items():
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
    pruning = method(
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
        build(
            f"block-pruning:columns=8,penalty={penalty_},end=1,schedule=one-shot,sparsity=0.01",
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
    student = build(f"block-pruning:direction={direction},scope=matrix,sparsity=0.75", training=False)
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
    student = build("block-pruning:scope=matrix,sparsity=0.5", training=False)
    [stage] = Recipe.parse("dynamic-int8").stages
    quantized, _ = run_stage(stage, student, context(), training=False)
    save_artifact(quantized, tmp_path / "artifact")
    stored = read_tensors(tmp_path / "artifact")
    assert read_config(tmp_path / "artifact").codecs[INTO] == "int8(channel)+blocks(1,16)"
    assert stored[INTO].nbytes == student.get_parameter(INTO).numel() // 2
    module = load_artifact(tmp_path / "artifact").get_submodule(INTO.removesuffix(".weight"))
    weight = student.get_parameter(INTO).detach()
    codec = Codec.parse("int8(channel)")
    assert torch.equal(module.weight, codec.encode(weight).values)


def test_layers_that_are_cut_afterwards_still_have_a_file(tmp_path: Path) -> None:
    """Heads of 8 are no multiple of blocks of 16: the blocks at the edge are then smaller."""
    student = build("block-pruning", training=False)
    [stage] = Recipe.parse("head-pruning:share=0.25,batches=1").stages
    cut, _ = run_stage(stage, student, context(), training=False)
    save_artifact(cut, tmp_path / "artifact")
    loaded = matrices(load_artifact(tmp_path / "artifact"))
    assert any(weight.shape[1] % 16 for weight in loaded.values())
    assert all(torch.equal(weight, loaded[name]) for name, weight in matrices(cut).items())


def shaped(layer: LayerConfig) -> EncoderConfig:
    return CONFIG.with_layers((CONFIG.layers[0], layer))


@pytest.mark.parametrize(
    ("recipe", "layer", "says"),
    [
        (
            "block-pruning:columns=24",
            CONFIG.layers[0],
            "blocks of 16 x 24 do not divide query of layer 0 of 32 x 32; "
            "use rows that divide 32 and columns that divide 32",
        ),
        (
            "block-pruning",
            LayerConfig(heads=4, head_size=8, ffn_size=100),
            "blocks of 16 x 16 do not divide ffn_in of layer 1 of 100 x 32; "
            "use rows that divide 4 and columns that divide 4",
        ),
        (
            "block-pruning",
            LayerConfig(heads=4, head_size=8, ffn_size=128, ranks={"key": 5}),
            "do not divide the first factor of key of layer 1 of 5 x 32",
        ),
        (
            "block-pruning:rows=5,columns=32",
            LayerConfig(heads=4, head_size=8, ffn_size=128, ranks={"key": 5}),
            "query of layer 0",
        ),
    ],
)
def test_blocks_must_divide_every_matrix(recipe: str, layer: LayerConfig, says: str) -> None:
    with pytest.raises(SkylineError, match=says) as error:
        method(recipe).check(shaped(layer))
    assert "\n" not in str(error.value)


def test_the_usual_shapes_are_taken_as_they_are() -> None:
    for config in (EncoderConfig.bert(12, 768), EncoderConfig.bert(6, 384, heads=12)):
        assert method("block-pruning").check(config) == config
        assert method("reweighted-proximal").check(config) == config


@pytest.mark.parametrize("identity", ["block-pruning", "reweighted-proximal"])
def test_something_must_be_there_to_prune(identity: str) -> None:
    bare = LayerConfig(heads=0, head_size=8, ffn_size=0)
    assert method(identity).check(shaped(bare)) == shaped(bare)
    with pytest.raises(SkylineError, match="the layers have no matrix to prune"):
        method(identity).check(CONFIG.with_layers((bare, bare)))


def test_factorized_matrices_are_pruned_in_both_factors() -> None:
    layer = LayerConfig(heads=4, head_size=8, ffn_size=128, ranks={"ffn_in": 16})
    config = shaped(layer)
    recipe = "block-pruning:scope=matrix,sparsity=0.5"
    assert method(recipe).check(config) == config
    model = Encoder(config, tiny_encoder().tokenizer).initialize(torch.Generator().manual_seed(0))
    student = build(recipe, False, model)
    for factor in ("first", "second"):
        assert float((student.get_parameter(f"layers.1.ffn.into.{factor}.weight") == 0).float().mean()) == 0.5


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("reweighted-proximal:sparsity=1", "sparsity=1 is out of range"),
        ("reweighted-proximal:strength=-1", "strength=-1 is out of range"),
        ("reweighted-proximal:interval=0", "interval=0 is out of range"),
        ("reweighted-proximal:end=0", "end=0 is out of range"),
        ("reweighted-proximal:scope=block", "scope=block is out of range"),
        ("block-pruning:rows=0", "rows=0 is out of range"),
        ("block-pruning:direction=both", "direction=both is out of range"),
        ("block-pruning:penalty=inf", "penalty=inf is out of range"),
        ("block-pruning:sparsity=0.1,scope=block,rows=4", "takes 0 of the 4 rows of a block"),
        ("block-pruning:sparsity=0.9,scope=block,columns=4,direction=column", "takes 4 of the 4 columns"),
        ("block-pruning + reweighted-proximal", "which weights are zero"),
        ("magnitude + block-pruning", "which weights are zero"),
    ],
)
def test_options_and_recipes_that_cannot_be(recipe: str, says: str) -> None:
    with pytest.raises(SkylineError, match=says) as error:
        Recipe.parse(recipe)
    assert "\n" not in str(error.value)
