"""pkd and distilbert: their losses by hand, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, rel_entr, softmax

from harness.common.errors import Code
from harness.compression.comparable import Baseline
from harness.conformance.tiny import CONFIG, tiny_encoder, tiny_tokenizer
from harness.recipes.compatibility import shape_after
from harness.recipes.recipe import Recipe
from tests.support.distilling import given_step
from tests.support.one_line_errors import refused
from tests.support.tiny_stages import built, context, draw, method_of

MASK = torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1], [1, 1, 0, 0]])
TARGETS = torch.tensor([0, 1, 1])
LOGITS = (draw(3, 2), draw(3, 2, seed=1))
OURS = [draw(3, 4, 5, seed=seed) for seed in range(10, 13)]
THEIRS = [draw(3, 4, 5, seed=seed) for seed in range(20, 25)]
"""A student of two layers, a teacher of four."""


def soft(temperature: float) -> float:
    student, teacher = (x.double().numpy() / temperature for x in LOGITS)
    return float(temperature**2 * rel_entr(softmax(teacher, 1), softmax(student, 1)).sum(1).mean())


HARD = float(-log_softmax(LOGITS[0].double().numpy(), 1)[np.arange(3), TARGETS].mean())


def loss(recipe: str) -> float:
    method = method_of(recipe)
    given: Any = context(tiny_encoder())
    method.prepare(tiny_encoder(), given)
    found = method.loss(given_step(OURS, THEIRS, MASK, LOGITS, TARGETS))
    assert found is not None
    return float(found)


@pytest.mark.parametrize(("strategy", "compared"), [("skip", 2), ("last", 3)])
def test_pkd(strategy: str, compared: int) -> None:
    """The first of two layers is compared: by skip with the second of four, by last with the third."""
    ours, theirs = (x[:, 0].double().numpy() for x in (OURS[1], THEIRS[compared]))
    ours, theirs = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (ours, theirs))
    wanted = 0.3 * HARD + 0.7 * soft(5.0) + 10 * ((ours - theirs) ** 2).mean()
    found = loss(f"pkd:layers=2,strategy={strategy},alpha=0.7,temperature=5,beta=10")
    assert found == pytest.approx(wanted, rel=1e-5)


def test_pkd_sees_no_lengths_of_states() -> None:
    method = method_of("pkd:layers=2")
    method.prepare(tiny_encoder(), context(tiny_encoder()))
    one = method.loss(given_step(OURS, THEIRS, MASK, LOGITS, TARGETS))
    other = method.loss(given_step([3 * x for x in OURS], [0.2 * x for x in THEIRS], MASK, LOGITS, TARGETS))
    assert one is not None
    assert other is not None
    assert float(one) == pytest.approx(float(other), rel=1e-5)


def test_distilbert() -> None:
    cosines = []
    for row, column in MASK.nonzero().tolist():
        ours, theirs = (x[row, column].double().numpy() for x in (OURS[-1], THEIRS[-1]))
        cosines.append(ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs))
    wanted = 3 * soft(2.0) + 0.5 * HARD + 2 * (1 - np.mean(cosines))
    assert loss("distilbert:layers=2,kl=3,task=0.5,cosine=2") == pytest.approx(wanted, rel=1e-5)
    assert loss("distilbert:layers=2,cosine=0") == pytest.approx(5 * soft(2.0) + 2 * HARD, rel=1e-5)


def test_students_begin_as_published() -> None:
    teacher = tiny_encoder()
    for recipe, kept in (("pkd:layers=2", [0, 1]), ("distilbert:layers=2", [0, 3])):
        student = built(recipe, teacher)
        for own, index in zip(student.layers, kept, strict=True):
            pairs = zip(own.parameters(), teacher.layers[index].parameters(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs), recipe


@pytest.mark.parametrize(
    ("recipe", "why"),
    [
        ("pkd:layers=5", "layers=5 is more than the teacher's 4; use 4 or fewer"),
        ("pkd:layers=3", "layers=3 .*teacher's 4.* 1, 2, 4"),
        ("distilbert:layers=5", "layers=5 .*teacher's 4"),
        ("minilm:layers=5", "layers=5 .*teacher's 4"),
        ("tinybert:layers=3", "layers=3 .*teacher's 4"),
        ("tinybert:layers=2,hidden=32", "hidden=32 .*hidden size 32"),
        ("embedding-factorization:rank=16 > tinybert:layers=2,hidden=16", "hidden=16 .*rank 16"),
        ("bert-emd:layers=5", "layers=5 .*teacher's 4"),
        ("tinybert:layers=2,hidden=16 > pkd:layers=2", "16 units .*teacher's 32"),
        ("tinybert:layers=2,hidden=16 > bert-emd:layers=2", "16 units .*teacher's 32"),
        ("vocabulary-pruning:keep=80 > pkd:layers=2", "tokens"),
        ("vocabulary-pruning:keep=80 > minilm:layers=2", "tokens"),
        ("vocabulary-pruning:keep=80 > tinybert:layers=2", "tokens"),
        ("albert:groups=2 > distilbert:layers=2", "share weights"),
    ],
)
def test_refused_before_training(recipe: str, why: str) -> None:
    baseline = Baseline(CONFIG, tiny_tokenizer)
    with refused(f"cannot work on tiny.*{why}"):
        shape_after(Recipe.parse(recipe), "tiny", baseline)


def test_a_shallower_student_can_still_be_compared_with_the_whole_teacher() -> None:
    shape = shape_after(
        Recipe.parse("layer-drop:drop=1 > pkd:layers=2"), "tiny", Baseline(CONFIG, tiny_tokenizer)
    )
    assert len(shape.layers) == 2
    shape = shape_after(Recipe.parse("tinybert:layers=2,hidden=16"), "tiny", Baseline(CONFIG, tiny_tokenizer))
    assert (len(shape.layers), shape.hidden_size) == (2, 16)


def test_nothing_to_learn() -> None:
    with refused(Code.CONFLICT, "kl", "task", "cosine"):
        method_of("distilbert:kl=0,task=0,cosine=0")
    with refused(Code.OUT_OF_RANGE, "layers=1"):
        method_of("pkd:layers=1")
