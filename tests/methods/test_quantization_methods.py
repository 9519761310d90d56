"""gobo and q8bert: the table, the outliers and the moving range worked out by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from torch import nn

from harness.compression.quantization.fake_quantization import QuantizedTraining, Rounded, RoundedInput
from harness.conformance.tiny import tiny_encoder
from harness.models.artifacts import load_artifact, read_config, save_artifact
from harness.models.batch import Batch
from harness.models.codecs import Codec, Int8
from harness.models.codecs.dictionary import find_outliers, fit_table
from harness.models.int8_linear import Int8Linear
from harness.models.parametrization import attached, trained_weights
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from tests.support.tiny_stages import built, context, draw


def plain_table(values: np.ndarray, entries: int) -> np.ndarray:
    """The algorithm written out over all weights: equally populated bins, then means of the nearest."""
    ordered = np.sort(values.astype(np.float64))
    edges = np.round(np.linspace(0, len(ordered), entries + 1)).astype(int)
    table = np.array([ordered[a:b].mean() for a, b in pairwise(edges)])
    best, least = table, np.inf
    while True:
        nearest = np.abs(ordered[:, None] - table).argmin(1)
        distance = np.abs(ordered - table[nearest]).sum()
        if distance >= least * (1 - 1e-9):
            return best
        best, least = table, distance
        table = np.array(
            [ordered[nearest == k].mean() if (nearest == k).any() else table[k] for k in range(entries)]
        )


@given(st.integers(0, 500), st.integers(1, 4), st.integers(40, 300))
@settings(max_examples=40, deadline=None)
def test_the_table_is_that_of_the_plain_algorithm(seed: int, bits: int, size: int) -> None:
    values = draw(size, seed=seed) * 0.04
    expected = plain_table(values.numpy(), 1 << bits)
    assert np.allclose(fit_table(values, 1 << bits).numpy(), expected, rtol=1e-5, atol=1e-9)


def test_the_table_by_hand() -> None:
    """Bins {0, 1} and {2, 11} begin at 0.5 and 6.5; then {0, 1, 2} and {11} at 1 and 11, Σ |w − c| = 2."""
    assert fit_table(torch.tensor([11.0, 0.0, 2.0, 1.0]), 2).tolist() == [1.0, 11.0]


def test_outliers_are_those_of_scipy_s_density() -> None:
    values = torch.cat([draw(5000) * 0.04, torch.tensor([0.5, -0.4, 0.2])])
    exact = values.double().numpy()
    expected = norm.logpdf(exact, exact.mean(), exact.std()) < -4
    assert find_outliers(values).numpy().tolist() == expected.tolist()
    assert expected[-3:].all()
    assert not find_outliers(torch.full((9,), 0.3)).any()


@pytest.mark.parametrize("outliers", ["kept", "none"])
def test_what_decoding_gives_back(outliers: str) -> None:
    values = draw(64, 50, seed=3) * 0.04
    values[3, 7], values[60, 49] = 0.9, -0.7
    codec = Codec.parse(f"dictionary(3,{outliers})+pack(3)")
    encoded = codec.encode(values)
    decoded = codec.decode(encoded, values.shape)
    odd = find_outliers(values.flatten()).view_as(values)
    table = encoded.beside["table"]
    nearest = table[(values[..., None] - table).abs().argmin(-1)]
    if outliers == "kept":
        assert torch.equal(decoded[odd], values[odd])
        assert torch.allclose(decoded[~odd], nearest[~odd])
        assert encoded.beside["positions"].numel() == int(odd.sum()) >= 2
    else:
        assert torch.allclose(decoded, nearest)
        assert not encoded.beside["positions"].numel()
    size = encoded.values.nbytes + sum(t.nbytes for t in encoded.beside.values())
    assert size == 64 * 50 * 3 // 8 + 8 * 4 + 8 + 8 * encoded.beside["positions"].numel()


def test_outliers_kept_err_less_at_three_bits() -> None:
    values = draw(64, 64) * 0.04
    values[::9, ::7] *= 12
    errors = [
        float(
            (
                Codec.parse(f"dictionary(3,{o})").decode(
                    Codec.parse(f"dictionary(3,{o})").encode(values), values.shape
                )
                - values
            )
            .square()
            .sum()
        )
        for o in ("kept", "none")
    ]
    assert errors[0] < errors[1]


def test_gobo_s_codecs(tmp_path: Path) -> None:
    teacher = tiny_encoder().eval()
    student = built("gobo:bits=3,embedding_bits=4", teacher)
    save_artifact(student, tmp_path / "artifact")
    codecs = read_config(tmp_path / "artifact").codecs
    assert codecs.pop("embedding.word.weight") == "dictionary(4,kept)+pack(4)"
    assert set(codecs.values()) == {"dictionary(3,kept)+pack(3)"}
    assert len(codecs) == 4 * 6 + 1
    loaded = load_artifact(tmp_path / "artifact")
    whole = teacher.layers[2].ffn.into.weight.detach()
    outliers = int(find_outliers(whole.flatten()).sum())
    assert len(loaded.layers[2].ffn.into.weight.unique()) == 8 + outliers


def test_the_range_of_inputs_moves_as_published() -> None:
    """It begins with the first batch; then range −= (1 − decay) · (range − max |x|)."""
    ranges, module = RoundedInput(0.9), nn.Linear(2, 2)
    for x, expected in ((4.0, 4.0), (2.0, 4.0 - 0.1 * 2.0), (13.8, 3.8 + 0.1 * 10.0)):
        ranges(module, (torch.tensor([[-x, 0.0]]),))
        assert float(ranges.largest) == pytest.approx(expected)
    module.eval()
    (rounded,) = ranges(module, (torch.tensor([[100.0, 0.02]]),))
    assert float(ranges.largest) == pytest.approx(4.8)
    # Clamped at the range; 0.02 is 0.53 steps of 4.8 / 127.
    assert rounded[0].tolist() == pytest.approx([4.8, 4.8 / 127])


def test_training_sees_what_the_artifact_will_hold() -> None:
    weight = draw(7, 5).requires_grad_()
    seen = Rounded(Int8("tensor"))(weight)
    codec = Codec((Int8("tensor"),))
    assert torch.equal(seen, codec.decode(codec.encode(weight), weight.shape))
    seen.sum().backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))


def test_the_rounded_weights_stay_and_all_else_goes() -> None:
    model = tiny_encoder()
    name = "layers.0.ffn.into.weight"
    training = QuantizedTraining(model, {name: Int8("tensor")}, decay=0.9)
    raw = trained_weights(model, [name])[name].detach().clone()
    batch = Batch.synthetic(2, 5, 50)
    seen = model.eval()(batch).logits
    training.end(model)
    assert attached(model) == []
    assert not model.layers[0].ffn.into._forward_pre_hooks
    codec = Codec((Int8("tensor"),))
    assert torch.equal(model.layers[0].ffn.into.weight, codec.decode(codec.encode(raw), raw.shape))
    assert not torch.equal(seen, model(batch).logits), "inputs were rounded too"


def test_q8bert_trains_beside_pruning_and_distillation(tmp_path: Path) -> None:
    """Movva et al. 2022: in one run, whichever is named first."""
    teacher = tiny_encoder().eval()
    for recipe in ("q8bert + magnitude:sparsity=0.5 + kd-logits:layers=2", "magnitude:sparsity=0.5 + q8bert"):
        (stage,) = Recipe.parse(recipe).stages
        student, (log,) = run_stage(stage, teacher, context(teacher))
        assert log.steps == 3
        folder = tmp_path / recipe[:4]
        save_artifact(student, folder)
        codecs = read_config(folder).codecs
        assert codecs["layers.1.ffn.out.weight"] == "int8(tensor)+bitmask"
        loaded = load_artifact(folder)
        kernel = loaded.layers[1].ffn.out
        assert isinstance(kernel, Int8Linear)
        assert float((kernel.weight == 0).float().mean()) >= 0.5
