"""magnitude and random-pruning: exactly as sparse as asked for, on schedule, and never growing back."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from harness.compression.pruning.gradual import Schedule, sparsity_at
from harness.conformance.tiny import tiny_encoder
from harness.models.artifacts import load_artifact, read_tensors, save_artifact
from harness.models.encoder.encoder import Encoder
from harness.recipes.builder import run_stage
from harness.recipes.recipe import Recipe
from tests.support.tiny_stages import built, context

WORDS = "embedding.word.weight"
PRUNING = ("magnitude", "random-pruning")


def zeros(model: Encoder) -> dict[str, Tensor]:
    weights = dict(model.named_parameters())
    return {name: weights[name] == 0 for name in [*model.matrix_names(), WORDS]}


@pytest.mark.parametrize("identity", PRUNING)
@pytest.mark.parametrize("sparsity", [0.4, 0.6, 0.8, 0.333])
def test_each_matrix_is_exactly_as_sparse(identity: str, sparsity: float) -> None:
    model = built(f"{identity}:sparsity={sparsity}")
    for name, mask in zeros(model).items():
        assert int(mask.sum()) == (0 if name == WORDS else round(sparsity * mask.numel())), name
    untouched = dict(tiny_encoder().named_parameters())
    for name, weight in model.named_parameters():
        assert torch.equal(weight[weight != 0], untouched[name][weight != 0]), "what is kept keeps its value"


@pytest.mark.parametrize("identity", PRUNING)
def test_globally_the_sum_is_exact(identity: str) -> None:
    masks = zeros(built(f"{identity}:sparsity=0.6,scope=global"))
    masks.pop(WORDS)
    assert sum(int(mask.sum()) for mask in masks.values()) == round(
        0.6 * sum(m.numel() for m in masks.values())
    )


def test_embeddings_only_where_asked_for() -> None:
    words = zeros(built("magnitude:sparsity=0.5,embeddings=true"))[WORDS]
    assert int(words.sum()) == words.numel() // 2
    everywhere = zeros(built("magnitude:sparsity=0.5,embeddings=true,scope=global"))
    assert sum(int(m.sum()) for m in everywhere.values()) == sum(m.numel() for m in everywhere.values()) // 2


def test_magnitude_drops_the_smallest_of_each_matrix() -> None:
    weights = dict(tiny_encoder().named_parameters())
    for name, mask in zeros(built("magnitude:sparsity=0.6")).items():
        if name == WORDS:
            continue
        sizes = np.abs(weights[name].detach().numpy()).ravel()
        smallest = np.argsort(sizes, kind="stable")[: round(0.6 * sizes.size)]
        assert set(np.flatnonzero(mask.numpy().ravel())) == set(smallest)


def test_globally_magnitude_drops_the_smallest_of_all() -> None:
    model = tiny_encoder()
    with torch.no_grad():
        model.layers[0].ffn.into.weight.mul_(0.01)
    sizes = {name: weight.detach().abs() for name, weight in model.named_parameters()}
    masks = zeros(built("magnitude:sparsity=0.4,scope=global", model))
    masks.pop(WORDS)
    dropped = torch.cat([sizes[name][mask] for name, mask in masks.items()])
    kept = torch.cat([sizes[name][~mask] for name, mask in masks.items()])
    assert dropped.max() <= kept.min()
    assert masks["layers.0.ffn.into.weight"].float().mean() > 0.9


def test_random_masks_are_seeded_and_look_at_no_weight() -> None:
    one, same = zeros(built("random-pruning:sparsity=0.6")), zeros(built("random-pruning:sparsity=0.6"))
    other_seed = zeros(built("random-pruning:sparsity=0.6", seed=1))
    other_weights = zeros(built("random-pruning:sparsity=0.6", tiny_encoder(7)))
    for name in tiny_encoder().matrix_names():
        assert torch.equal(one[name], same[name])
        assert torch.equal(one[name], other_weights[name])
        # Two independent masks of 60 % agree on 0.36 + 0.16 of the weights.
        agreement = (one[name] == other_seed[name]).float().mean().item()
        assert agreement == pytest.approx(0.52, abs=5 * 0.5 / one[name].numel() ** 0.5)


def test_sparser_random_masks_contain_the_others() -> None:
    masks = [zeros(built(f"random-pruning:sparsity={share}")) for share in (0.2, 0.4, 0.8)]
    for fewer, more in itertools.pairwise(masks):
        assert all((more[name] | ~fewer[name]).all() for name in fewer)


class Watched:
    """A pruning stage trained for twelve steps, with the zeros after each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, recipe: str) -> None:
        [stage] = Recipe.parse(recipe).stages
        method = stage.calls[0].method
        self.progress: list[float] = []
        self.zeros: list[dict[str, Tensor]] = []
        given = method.step

        def step(this: Any, student: Encoder, progress: float) -> None:
            given(this, student, progress)
            self.progress.append(progress)
            self.zeros.append({name: mask.clone() for name, mask in zeros(student).items()})

        monkeypatch.setattr(method, "step", step)
        self.student, [self.training] = run_stage(stage, tiny_encoder(), context(batch_size=4))


@pytest.mark.parametrize("identity", PRUNING)
@pytest.mark.parametrize("schedule", ["cubic", "linear", "one-shot"])
def test_training_follows_the_schedule_and_nothing_grows_back(
    identity: str, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(monkeypatch, f"{identity}:sparsity=0.8,schedule={schedule},begin=0.2,end=0.7")
    assert watched.training.steps == 12
    assert watched.progress == pytest.approx([*(n / 12 for n in range(1, 13)), 1.0])
    before = {name: torch.zeros_like(mask) for name, mask in watched.zeros[0].items()}
    for progress, after in zip(watched.progress, watched.zeros, strict=True):
        wanted = sparsity_at(progress, 0.8, schedule, 0.2, 0.7)
        for name in tiny_encoder().matrix_names():
            assert int(after[name].sum()) == round(wanted * after[name].numel())
            assert (after[name] | ~before[name]).all(), "a weight that was zero came back"
        before = after
    assert all(torch.equal(mask, before[name]) for name, mask in zeros(watched.student).items())
    weights, untrained = dict(watched.student.named_parameters()), dict(tiny_encoder().named_parameters())
    name = "layers.1.ffn.into.weight"
    assert not torch.equal(weights[name][~before[name]], untrained[name][~before[name]]), "the others train"


@pytest.mark.parametrize(
    ("progress", "schedule", "wanted"),
    [
        (0.0, "cubic", 0.0),
        (0.3, "cubic", 0.8 * (1 - 0.5**3)),
        (0.45, "cubic", 0.8 * (1 - 0.25**3)),
        (0.6, "cubic", 0.8),
        (0.3, "linear", 0.4),
        (0.15, "linear", 0.2),
        (0.9, "linear", 0.8),
        (0.0, "one-shot", 0.8),
    ],
)
def test_the_schedules_by_hand(progress: float, schedule: Schedule, wanted: float) -> None:
    assert sparsity_at(progress, 0.8, schedule, 0.0, 0.6) == pytest.approx(wanted)


@given(
    st.floats(0.01, 0.99),
    st.sampled_from(["cubic", "linear", "one-shot"]),
    st.just(0.0) | st.floats(0.001, 0.5),
    st.floats(0.01, 0.5),
    st.lists(st.floats(0, 1), min_size=2),
)
def test_a_schedule_only_rises(
    final: float, schedule: Schedule, begin: float, length: float, points: list[float]
) -> None:
    end = begin + length
    found = [sparsity_at(p, final, schedule, begin, end) for p in sorted(points)]
    assert found == sorted(found)
    assert all(0 <= s <= final for s in found)
    assert sparsity_at(end, final, schedule, begin, end) == final
    assert begin == 0 or sparsity_at(begin * 0.99, final, schedule, begin, end) == 0


@pytest.mark.parametrize("identity", PRUNING)
def test_zeros_stay_out_of_the_file(identity: str, tmp_path: Path) -> None:
    model = built(f"{identity}:sparsity=0.6")
    save_artifact(model, tmp_path / "artifact")
    stored = read_tensors(tmp_path / "artifact")
    for name, mask in zeros(model).items():
        if name == WORDS:
            assert stored[name].shape == mask.shape
            continue
        assert stored[name].numel() == int((~mask).sum())
        assert stored[f"{name}::mask"].numel() == mask.numel() // 8
    loaded = dict(load_artifact(tmp_path / "artifact").named_parameters())
    assert all(torch.equal(weight, loaded[name]) for name, weight in model.named_parameters())


def test_a_student_s_own_matrices_are_pruned() -> None:
    """With a student of fewer layers in the same stage, sparsity counts over the student."""
    model = built("kd-logits:layers=2 + magnitude:sparsity=0.5")
    assert len(model.layers) == 2
    masks = zeros(model)
    assert len(masks) == 2 * 6 + 1
    assert all(int(mask.sum()) == mask.numel() // 2 for name, mask in masks.items() if name != WORDS)
