"""Masks and schedules of gradual pruning, against sorting and the papers' formulas."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydantic import ValidationError
from torch import Tensor

from harness.compression.pruning.gradual import GradualPruning, RampOptions, sparsity_at
from harness.compression.pruning.masks import WORD_EMBEDDING, Masks, keep_largest, prunable
from harness.models.encoder.encoder import Encoder
from tests.support.encoder_models import TINY, logits, random_batch, random_weights
from tests.support.one_line_errors import refused

SHARES = st.floats(0, 1)


@st.composite
def scores(draw: st.DrawFn) -> dict[str, Tensor]:
    """A few matrices of scores with many ties."""
    shapes = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4))
    elements = st.one_of(st.integers(0, 3).map(float), st.floats(0, 8, width=32))
    return {
        f"m{i}": torch.from_numpy(draw(arrays.arrays(np.float32, shape, elements=elements)).copy())
        for i, shape in enumerate(shapes)
    }


def by_sorting(values: np.ndarray, sparsity: float) -> np.ndarray:
    """The oracle: sort stably, drop the first round(sparsity · n)."""
    kept = np.ones(values.size, dtype=bool)
    kept[np.argsort(values, kind="stable")[: round(sparsity * values.size)]] = False
    return kept


@given(scores(), SHARES)
@settings(max_examples=100, deadline=None)
def test_keep_largest_is_sorting(given_: dict[str, Tensor], sparsity: float) -> None:
    per_matrix = keep_largest(given_, sparsity, "matrix")
    for name, score in given_.items():
        expected = by_sorting(score.numpy().ravel(), sparsity).reshape(score.shape)
        assert np.array_equal(per_matrix[name].numpy(), expected)
    together = keep_largest(given_, sparsity, "global")
    flat = np.concatenate([score.numpy().ravel() for score in given_.values()])
    found = np.concatenate([together[name].numpy().ravel() for name in given_])
    assert np.array_equal(found, by_sorting(flat, sparsity))
    assert {name: mask.shape for name, mask in together.items()} == {n: s.shape for n, s in given_.items()}


@given(scores(), SHARES, SHARES, st.sampled_from(["matrix", "global"]))
@settings(max_examples=60, deadline=None)
def test_masks_are_nested(given_: dict[str, Tensor], one: float, other: float, scope: Any) -> None:
    low, high = sorted((one, other))
    looser, tighter = keep_largest(given_, low, scope), keep_largest(given_, high, scope)
    assert all((tighter[name] <= looser[name]).all() for name in given_)


def test_scopes_differ_where_matrices_differ() -> None:
    given_ = {"small": torch.rand(10, 10), "large": 1 + torch.rand(10, 10)}
    per_matrix, together = (keep_largest(given_, 0.5, scope) for scope in ("matrix", "global"))
    assert [int(mask.sum()) for mask in per_matrix.values()] == [50, 50]
    assert [int(mask.sum()) for mask in together.values()] == [0, 100]


UNIT = st.floats(0, 1)
FINAL = st.floats(0.01, 0.99)


@given(UNIT, FINAL, UNIT, UNIT)
@settings(max_examples=100, deadline=None)
def test_schedules_follow_the_formulas(progress: float, final: float, one: float, other: float) -> None:
    begin, end = sorted((one, other))
    assume(begin + 1e-6 < end)
    u = min(1.0, max(0.0, (progress - begin) / (end - begin)))
    # Zhu & Gupta 2017, equation 1: s_t = s_f + (s_i − s_f)(1 − (t − t_0) / (n Δt))³, here with s_i = 0.
    cubic = final + (0 - final) * (1 - u) ** 3
    assert math.isclose(sparsity_at(progress, final, "cubic", begin, end), cubic, abs_tol=1e-12)
    assert math.isclose(sparsity_at(progress, final, "linear", begin, end), final * u, abs_tol=1e-12)
    assert sparsity_at(progress, final, "one-shot", begin, end) == (final if progress >= begin else 0)


@given(FINAL, UNIT, UNIT, UNIT, UNIT, st.sampled_from(["cubic", "linear", "one-shot"]))
@settings(max_examples=100, deadline=None)
def test_schedules_never_go_back(
    final: float, one: float, other: float, t1: float, t2: float, schedule: Any
) -> None:
    begin, end = sorted((one, other))
    assume(begin < end)
    early, late = (sparsity_at(t, final, schedule, begin, end) for t in sorted((t1, t2)))
    assert 0 <= early <= late <= final
    assert sparsity_at(1.0, final, schedule, begin, end) == final
    assert sparsity_at(end, final, schedule, begin, end) == final
    if schedule != "one-shot":
        assert sparsity_at(begin, final, schedule, begin, end) == 0


def test_known_points() -> None:
    assert sparsity_at(0.3, 0.8, "cubic", 0.0, 0.6) == pytest.approx(0.8 * 7 / 8)
    assert sparsity_at(0.3, 0.8, "linear", 0.0, 0.6) == pytest.approx(0.4)
    assert sparsity_at(0.1, 0.8, "cubic", 0.2, 0.6) == 0


@pytest.mark.parametrize(
    "values",
    [
        {"sparsity": 0},
        {"sparsity": 1},
        {"begin": 0.6, "end": 0.6},
        {"begin": 0.7},
        {"schedule": "square"},
        {"end": 2},
    ],
)
def test_ramps_that_cannot_be(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RampOptions(**values)


def test_prunable_names(tiny: Encoder) -> None:
    names = prunable(tiny, embeddings=False)
    assert len(names) == 2 * 6
    assert all(dict(tiny.named_parameters())[name].dim() == 2 for name in names)
    assert not [name for name in names if "head" in name or "embedding" in name or "norm" in name]
    assert set(prunable(tiny, embeddings=True)) == {*names, WORD_EMBEDDING}


def test_masks_zero_and_count(tiny: Encoder) -> None:
    masks = Masks(tiny, (name for name in prunable(tiny, embeddings=False)))
    assert len(masks.weights) == 12
    assert masks.sparsity() == 0
    before = {name: parameter.clone() for name, parameter in tiny.named_parameters()}
    masks.replace(keep_largest(masks.magnitudes(), 0.25, "global"))
    masks.apply()
    total = sum(weight.numel() for weight in masks.weights.values())
    assert masks.sparsity() == pytest.approx(round(0.25 * total) / total)
    for name, parameter in tiny.named_parameters():
        kept = masks.kept.get(name)
        if kept is None:
            assert torch.equal(parameter, before[name])
        else:
            assert torch.equal(parameter, before[name] * kept)
    with refused(r"'rnn\.weight'"):
        Masks(tiny, ["rnn.weight"])


class Largest(GradualPruning):
    """Gradual pruning by magnitude."""

    def scores(self) -> Mapping[str, Tensor]:
        return self.masks.magnitudes()


def zeros(model: Encoder, names: list[str]) -> dict[str, float]:
    parameters = dict(model.named_parameters())
    return {name: float((parameters[name] == 0).float().mean()) for name in names}


@pytest.mark.parametrize("schedule", ["cubic", "linear", "one-shot"])
@pytest.mark.parametrize("scope", ["matrix", "global"])
@pytest.mark.parametrize("embeddings", [False, True])
def test_a_ramp_ends_at_its_sparsity(schedule: Any, scope: Any, embeddings: bool) -> None:
    model = random_weights(TINY, 0)
    method = Largest(
        RampOptions(sparsity=0.7, schedule=schedule, scope=scope, embeddings=embeddings, begin=0.1)
    )
    context: Any = None
    method.prepare(model, context)
    names = prunable(model, embeddings)
    generator = torch.Generator().manual_seed(0)
    seen = []
    for step in range(1, 101):
        for parameter in model.parameters():
            # What an optimizer does between two steps: every weight moves, dropped ones too.
            parameter.data.add_(torch.empty_like(parameter).normal_(0, 1e-3, generator=generator))
        method.step(model, step / 100)
        seen.append(method.masks.sparsity())
        for name in names:
            assert torch.equal(model.get_parameter(name) == 0, ~method.masks.kept[name])
    assert seen == sorted(seen)
    assert seen[8] == 0 < seen[12]
    method.finish(model, context)
    found = zeros(model, names)
    sizes = {name: model.get_parameter(name).numel() for name in names}
    if scope == "matrix":
        assert found == pytest.approx({name: round(0.7 * n) / n for name, n in sizes.items()})
    else:
        share = sum(found[name] * n for name, n in sizes.items()) / sum(sizes.values())
        assert share == pytest.approx(round(0.7 * sum(sizes.values())) / sum(sizes.values()))
        assert len(set(found.values())) > 1
    assert {name: str(codec) for name, codec in model.storage.codecs.items()} == dict.fromkeys(
        names, "bitmask"
    )
    assert (not zeros(model, [WORD_EMBEDDING])[WORD_EMBEDDING]) == (not embeddings)


def test_finish_alone_prunes_in_one_shot() -> None:
    model, context = random_weights(TINY, 0), None
    expected = {
        n: by_sorting(model.get_parameter(n).detach().abs().numpy().ravel(), 0.5)
        for n in prunable(model, False)
    }
    before = logits(model, random_batch([9], TINY.vocab_size))
    method = Largest(RampOptions(sparsity=0.5))
    method.prepare(model, context)  # type: ignore[arg-type]
    assert torch.equal(logits(model, random_batch([9], TINY.vocab_size)), before)
    method.finish(model, context)  # type: ignore[arg-type]
    for name, kept in expected.items():
        assert np.array_equal(model.get_parameter(name).detach().numpy().ravel() != 0, kept)
