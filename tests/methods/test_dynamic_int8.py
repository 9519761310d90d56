"""dynamic-int8: what is stored, what executes, and that pruned weights stay out of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from harness.conformance.tiny import tiny_encoder, tiny_task
from harness.models.artifacts import load_artifact, read_config, read_tensors, save_artifact, to_dense
from harness.models.batch import Batch
from harness.models.encoder.encoder import Encoder
from harness.models.int8_linear import Int8Linear
from harness.profiling.costs.size import artifact_facts
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from tests.support.tiny_stages import context

MATRICES = 4 * 6 + 1
"""Six a layer, and the pooler."""


def apply(recipe: str, model: Encoder) -> Encoder:
    """The recipe's stages without training."""
    for stage in Recipe.parse(recipe).stages:
        model, _ = run_stage(stage, to_dense(model), context(shapes_only=True))
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("int8") / "artifact"
    save_artifact(apply("dynamic-int8", tiny_encoder()), folder)
    return folder


def test_what_is_stored_in_int8(folder: Path) -> None:
    stored = read_tensors(folder)
    int8 = {name for name, tensor in stored.items() if tensor.dtype == torch.int8}
    linears = {f"{path}.weight" for path, m in tiny_encoder().named_modules() if isinstance(m, nn.Linear)}
    assert int8 == linears - {"head.classifier.weight"} | {"embedding.word.weight"}
    assert len(int8) == MATRICES + 1
    others = {name for name in stored if name not in int8}
    assert all(stored[name].dtype == torch.float32 for name in others)
    assert set(read_config(folder).codecs.values()) == {"int8(channel)"}


def test_each_row_s_scale_is_its_largest_weight_over_127(folder: Path) -> None:
    stored, model = read_tensors(folder), tiny_encoder()
    for name, weight in model.named_parameters():
        if stored[name].dtype != torch.int8:
            assert torch.equal(stored[name], weight)
            continue
        rows = weight.detach().double().numpy()
        scale = np.abs(rows).max(axis=1) / 127
        np.testing.assert_allclose(stored[f"{name}::scale"].numpy(), scale, rtol=1e-6)
        np.testing.assert_array_less(np.abs(rows / scale[:, None] - stored[name].numpy()), 0.5 + 1e-4)


def test_one_scale_a_matrix_where_asked_for(tmp_path: Path) -> None:
    model = tiny_encoder()
    save_artifact(apply("dynamic-int8:per=tensor,embeddings=false", model), tmp_path / "a")
    stored = read_tensors(tmp_path / "a")
    assert stored["embedding.word.weight"].dtype == torch.float32
    scales = {name: tensor for name, tensor in stored.items() if name.endswith("::scale")}
    assert len(scales) == MATRICES
    weights = dict(model.named_parameters())
    for name, scale in scales.items():
        assert scale.shape == ()
        assert scale.item() == pytest.approx(weights[name.removesuffix("::scale")].abs().max().item() / 127)


def test_the_maps_execute_in_int8(folder: Path) -> None:
    loaded = load_artifact(folder)
    kernels = {path for path, module in loaded.named_modules() if isinstance(module, Int8Linear)}
    assert len(kernels) == MATRICES
    assert {type(m) for m in loaded.modules() if isinstance(m, nn.Linear)} == {nn.Linear}
    assert [p for p, m in loaded.named_modules() if isinstance(m, nn.Linear)] == ["head.classifier"]
    kernel = loaded.get_submodule("layers.2.ffn.into")
    assert isinstance(kernel, Int8Linear)
    assert kernel.bias is not None
    x = torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(0))
    tokens = x.numpy().reshape(-1, 32)
    scale = np.abs(tokens).max(axis=1, keepdims=True) / np.float32(127)
    integers = np.rint(tokens / scale).astype(np.int64)
    sums = integers @ kernel.weight.numpy().astype(np.int64).T
    wanted = sums * scale * kernel.scale.numpy() + kernel.bias.numpy()
    np.testing.assert_allclose(kernel(x).numpy().reshape(-1, 128), wanted, rtol=0, atol=1e-5)


def test_the_result_is_close_to_float32(folder: Path) -> None:
    texts = [example.text for example in tiny_task().dev()[:16]]
    full, quantized = tiny_encoder(), load_artifact(folder)
    with torch.inference_mode():
        batch = full.encode(texts)
        exact, found = full(batch).logits, quantized(batch).logits
    error, spread = (found - exact).norm(), (exact - exact.mean(dim=0)).norm()
    assert 0 < error < 0.15 * spread


def test_the_file_is_a_quarter(folder: Path, tmp_path: Path) -> None:
    save_artifact(tiny_encoder(), tmp_path / "baseline")
    facts, base = artifact_facts(folder), artifact_facts(tmp_path / "baseline")
    assert facts.params == base.params
    int8 = {name for name, tensor in read_tensors(folder).items() if tensor.dtype == torch.int8}
    weights = dict(tiny_encoder().named_parameters())
    saved = sum(3 * weights[name].numel() for name in int8)
    scales = sum(4 * weights[name].shape[0] for name in int8)
    headers = facts.weight_bytes - (base.weight_bytes - saved + scales)
    assert 0 < headers < 150 * len(int8)


def test_after_pruning_only_what_is_left_is_stored(tmp_path: Path) -> None:
    pruned = apply("magnitude:sparsity=0.75", tiny_encoder())
    both = apply("magnitude:sparsity=0.75 > dynamic-int8", tiny_encoder())
    save_artifact(both, tmp_path / "both")
    save_artifact(apply("dynamic-int8", tiny_encoder()), tmp_path / "dense")
    codecs, stored = read_config(tmp_path / "both").codecs, read_tensors(tmp_path / "both")
    weights = dict(pruned.named_parameters())
    for name in pruned.matrix_names():
        assert codecs[name] == "int8(channel)+bitmask"
        assert stored[name].dtype == torch.int8
        kept = weights[name] != 0
        assert stored[name].numel() <= int(kept.sum()) == round(0.25 * kept.numel())
        assert stored[f"{name}::mask"].numel() == -(-kept.numel() // 8)
        assert (stored[name] != 0).all()
    assert codecs["embedding.word.weight"] == codecs["head.pooler.weight"] == "int8(channel)"
    loaded = load_artifact(tmp_path / "both")
    kernel = loaded.get_submodule("layers.0.ffn.out")
    assert isinstance(kernel, Int8Linear)
    assert not kernel.weight[weights["layers.0.ffn.out.weight"] == 0].any()
    with torch.inference_mode():
        logits = loaded(Batch.synthetic(2, 12, loaded.config.vocab_size)).logits
    assert torch.isfinite(logits).all()
    sizes = [artifact_facts(tmp_path / name).disk_bytes for name in ("both", "dense")]
    # A quarter of the int8 values and an eighth of a byte each for the mask.
    values = sum(weights[name].numel() for name in pruned.matrix_names())
    assert sizes[1] - sizes[0] == pytest.approx(values * (1 - 0.25 - 0.125), rel=0.1)


def test_it_needs_no_training() -> None:
    [stage] = Recipe.parse("dynamic-int8").stages
    student, done = run_stage(stage, tiny_encoder(), context())
    assert done == []
    assert not stage.trains
    assert torch.equal(student.head.pooler.weight, tiny_encoder().head.pooler.weight)  # type: ignore[union-attr]
