"""magnitude and random-pruning in the regimes of Gordon et al. 2020: what is pruned when, and what may come back."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.compression.pruning.gradual import GradualPruning, sparsity_at
from harness.compression.pruning.masks import share_changed
from harness.conformance.tiny import CONFIG, tiny_encoder
from harness.models.artifacts import read_tensors, save_artifact
from harness.models.config import LayerConfig
from harness.models.encoder.encoder import Encoder
from harness.recipes.discovery import discover
from harness.recipes.recipe import Recipe
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import method_of
from tests.support.tuned_stages import PRETRAINED, TUNED, run, smallest, tuned_context

TABLE = Path(__file__).parents[2] / "profiles" / "published" / "gordon2020_table1.csv"
PRUNING = ("magnitude", "random-pruning")
REGIMES = ("pretraining", "information-deletion")


def zeros(model: Encoder) -> dict[str, Tensor]:
    weights = dict(model.named_parameters())
    return {name: weights[name].detach() == 0 for name in model.matrix_names()}


def smallest_of(weight: Tensor, share: float) -> np.ndarray:
    sizes = np.abs(weight.detach().numpy()).ravel()
    return smallest(sizes, round(share * sizes.size)).reshape(weight.shape)


def test_the_claims_are_the_paper_s_table() -> None:
    regimes = {
        "pruned after downstream fine-tuning": ("magnitude", "after-fine-tuning"),
        "pruned during pre-training": ("magnitude", "pretraining"),
        "information deletion": ("magnitude", "information-deletion"),
        "random pruning": ("random-pruning", "pretraining"),
    }
    wanted = set()
    with TABLE.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if percent := int(row["pruned_pct"]):
                identity, regime = regimes[row["regime"]]
                where = f"Table 1, {row['regime']}, {percent} %"
                for task in ("mnli", "qqp", "qnli", "sst2", "cola"):
                    wanted.add((identity, task, float(row[task]), where, percent / 100, regime))
    found = [
        (identity, c.task, c.value, c.where, c.options["sparsity"], c.options["regime"])
        for identity in PRUNING
        for c in discover().get(identity).card.claims
    ]
    assert len(found) == len(wanted) == 4 * 9 * 5
    assert set(found) == wanted
    claims = [claim for identity in PRUNING for claim in discover().get(identity).card.claims]
    assert {(claim.split, claim.metric, claim.model) for claim in claims} == {
        ("dev", "accuracy", "bert-base")
    }


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("training", [True, False])
def test_the_pre_trained_weights_are_what_is_pruned(regime: str, training: bool) -> None:
    """With a learning rate too small to move anything, the smallest of the pre-trained weights go."""
    given = tuned_context(learning_rate=1e-30, weight_decay=0.0)
    student, _ = run(
        f"magnitude:sparsity=0.6,regime={regime},pretraining_share=0.5", given, shapes_only=not training
    )
    start = dict(tiny_encoder(PRETRAINED).named_parameters())
    gone = zeros(student)
    for name, weight in student.named_parameters():
        if name not in gone:
            assert torch.allclose(weight, start[name], atol=1e-6), name
            continue
        expected = smallest_of(start[name], 0.6)
        assert np.allclose(
            weight.detach().numpy(), np.where(expected, 0, start[name].detach().numpy()), atol=1e-6
        )
        if regime == "pretraining" or not training:
            assert np.array_equal(gone[name].numpy(), expected)


class Watched:
    """A recipe whose zeros are noted after each step, with the progress and whether these are pre-training's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, recipe: str, **budget: Any) -> None:
        self.seen: list[tuple[float, dict[str, Tensor], dict[str, Tensor]]] = []
        given = GradualPruning.step

        def step(this: Any, student: Encoder, progress: float) -> None:
            given(this, student, progress)
            weights = {name: weight.detach().clone() for name, weight in student.named_parameters()}
            self.seen.append((progress, zeros(student), weights))

        monkeypatch.setattr(GradualPruning, "step", step)
        self.student, self.training = run(recipe, tuned_context(**budget))


@pytest.mark.parametrize("identity", PRUNING)
def test_the_ramp_is_in_pre_training_and_the_masks_hold_in_fine_tuning(
    identity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = f"{identity}:sparsity=0.8,schedule=linear,end=0.5,regime=pretraining,pretraining_share=0.667"
    watched = Watched(monkeypatch, recipe, batch_size=8, epochs=3)
    assert [(t.stage, t.steps) for t in watched.training] == [
        (f"{identity} pre-training", 12),
        (str(Recipe.parse(recipe)), 6),
    ]
    progress = [seen[0] for seen in watched.seen]
    assert progress == pytest.approx(
        [*(n / 12 for n in range(1, 13)), 1.0, *(n / 6 for n in range(1, 7)), 1.0]
    )
    before = {name: torch.zeros_like(mask) for name, mask in watched.seen[0][1].items()}
    for done, gone, _ in watched.seen[:12]:
        share = sparsity_at(done, 0.8, "linear", 0.0, 0.5)
        for name, mask in gone.items():
            assert int(mask.sum()) == round(share * mask.numel())
            assert (mask | ~before[name]).all(), "a weight that was zero came back"
        before = gone
    held, started = watched.seen[12][1], watched.seen[12][2]
    for _, gone, _ in watched.seen[12:]:
        assert all(torch.equal(mask, held[name]) for name, mask in gone.items())
    assert all(torch.equal(mask, held[name]) for name, mask in zeros(watched.student).items())
    moved = [not torch.equal(weight, started[name]) for name, weight in watched.student.named_parameters()]
    assert all(moved), "what is kept is fine-tuned, the head too"
    codecs = watched.student.storage.codecs
    assert {name: str(codec) for name, codec in codecs.items()} == dict.fromkeys(held, "bitmask")


def test_after_information_deletion_weights_come_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = "magnitude:sparsity=0.8,regime=information-deletion,pretraining_share=0.667"
    watched = Watched(monkeypatch, recipe, batch_size=8, epochs=3)
    deleted = watched.seen[12][1]
    assert all(int(mask.sum()) == round(0.8 * mask.numel()) for mask in deleted.values())
    left = zeros(watched.student)
    total = sum(mask.numel() for mask in left.values())
    assert sum(int(mask.sum()) for mask in left.values()) < 0.01 * total
    assert not watched.student.storage.codecs
    save_artifact(watched.student, tmp_path / "artifact")
    stored = read_tensors(tmp_path / "artifact")
    assert sum(t.numel() for t in stored.values()) == sum(p.numel() for p in watched.student.parameters())


def test_pruning_and_deletion_forget_the_same() -> None:
    """They differ in fine-tuning only."""
    students = []
    for regime in REGIMES:
        method = method_of(f"magnitude:sparsity=0.7,regime={regime}")
        students.append(tiny_encoder(TUNED))
        method.prepare(students[-1], tuned_context())
    one, other = (dict(student.named_parameters()) for student in students)
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())


def test_random_masks_are_the_same_in_every_regime() -> None:
    default = zeros(run("random-pruning:sparsity=0.5")[0])
    early = zeros(run("random-pruning:sparsity=0.5,regime=pretraining")[0])
    assert all(torch.equal(mask, early[name]) for name, mask in default.items())


def test_the_loss_of_pre_training_is_recorded_and_rises_with_sparsity() -> None:
    losses = []
    for sparsity in (0.1, 0.98):
        recipe = f"random-pruning:sparsity={sparsity},regime=pretraining,pretraining_share=0.9,end=0.1"
        _, [pretraining, tuning] = run(recipe, tuned_context(epochs=13))
        losses.append(tuning.figures["pretraining_loss"])
        assert pretraining.final_loss == losses[-1]
    assert losses[0] < losses[1]
    _, [tuning] = run("random-pruning:sparsity=0.5")
    assert tuning.figures == {}


def test_the_changed_share_by_hand() -> None:
    one = {"a": torch.tensor([[True, False], [True, True]]), "b": torch.tensor([True, False])}
    other = {"a": torch.tensor([[True, True], [False, True]]), "b": torch.tensor([True, False])}
    assert share_changed(one, other) == pytest.approx(2 / 6)
    assert share_changed(one, one) == 0.0


@pytest.mark.parametrize("regime", ["after-fine-tuning", "pretraining"])
def test_mask_changed_compares_the_baseline_with_what_it_was_tuned_from(regime: str) -> None:
    _, training = run(f"magnitude:sparsity=0.6,regime={regime}")
    tuned, start = (dict(tiny_encoder(seed).named_parameters()) for seed in (TUNED, PRETRAINED))
    names = list(tiny_encoder().matrix_names())
    changed = sum(int((smallest_of(tuned[n], 0.6) != smallest_of(start[n], 0.6)).sum()) for n in names)
    share = changed / sum(tuned[n].numel() for n in names)
    # Two independent encoders agree on 0.36 + 0.16 of the weights.
    assert share == pytest.approx(0.48, abs=0.02)
    assert training[-1].figures["mask_changed"] == pytest.approx(share)


def test_mask_changed_counts_the_embeddings_and_the_scope() -> None:
    def nearly() -> Encoder:
        """As the baseline, but for one weight that was the smallest of all and is now the largest."""
        model = tiny_encoder(TUNED)
        word = model.embedding.word.weight.data
        word.view(-1)[int(word.abs().argmin())] = 9.0
        return model

    _, [training] = run("magnitude:sparsity=0.5,embeddings=true,scope=global", tuned_context(nearly))
    model = tiny_encoder(TUNED)
    names = [*model.matrix_names(), "embedding.word.weight"]
    total = sum(model.get_parameter(name).numel() for name in names)
    assert training.figures["mask_changed"] == pytest.approx(2 / total, rel=1e-6)
    _, [training] = run("magnitude:sparsity=0.5,scope=global", tuned_context(nearly))
    assert training.figures["mask_changed"] == 0.0


def test_mask_changed_is_left_out_where_it_would_mean_nothing() -> None:
    assert run("magnitude:sparsity=0.6", tuned_context(None))[1][0].figures == {}
    assert run("kd-logits:layers=2 + magnitude:sparsity=0.6")[1][0].figures == {}


@pytest.mark.parametrize("recipe", ["magnitude:sparsity=0.6", "kd-logits:layers=3 + magnitude:sparsity=0.6"])
def test_noting_mask_changed_changes_no_weight(recipe: str) -> None:
    with_it, without = run(recipe)[0], run(recipe, tuned_context(None))[0]
    own = dict(without.named_parameters())
    assert all(torch.equal(weight, own[name]) for name, weight in with_it.named_parameters())


def test_another_method_s_work_is_not_thrown_away() -> None:
    for recipe, why in (
        ("kd-logits:layers=4 > magnitude:regime=pretraining", "weights"),
        ("kd-logits:layers=2 + magnitude:regime=pretraining", "shape"),
        ("head-pruning:share=0.5 > random-pruning:regime=information-deletion", "shape"),
    ):
        with refused("pre-trained weights", f"changed the encoder's {why}"):
            run(recipe)


def test_distillation_joins_the_fine_tuning() -> None:
    student, [pretraining, tuning] = run(
        "kd-logits:layers=4 + magnitude:sparsity=0.6,regime=pretraining,pretraining_share=0.5",
        tuned_context(epochs=2),
    )
    assert (pretraining.stage, pretraining.steps, tuning.steps) == ("magnitude pre-training", 3, 3)
    assert all(int(mask.sum()) == round(0.6 * mask.numel()) for mask in zeros(student).values())


def test_layers_without_a_matrix() -> None:
    bare = CONFIG.with_layers(tuple(LayerConfig(heads=0, head_size=8, ffn_size=0) for _ in CONFIG.layers))
    with refused("embeddings=true"):
        method_of("random-pruning").final_shape_from(bare)
    assert method_of("random-pruning:embeddings=true").final_shape_from(bare) is bare


@pytest.mark.parametrize("regime", REGIMES)
def test_early_stopping_may_choose_any_epoch_of_the_fine_tuning(regime: str) -> None:
    assert method_of("magnitude").fully_compressed_at == 0.6
    assert method_of(f"magnitude:regime={regime}").fully_compressed_at == 0.0
    given = tuned_context(patience=1, epochs=6)
    student, [pretraining, _] = run(f"magnitude:sparsity=0.5,regime={regime},pretraining_share=0.5", given)
    assert pretraining.steps == 9, "patience is the fine-tuning's"
    if regime == "pretraining":
        assert all(int(mask.sum()) == round(0.5 * mask.numel()) for mask in zeros(student).values())
