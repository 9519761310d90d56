"""Scores of one answer for every example."""

from __future__ import annotations

import os

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from harness.records.predictions import pack_predictions
from harness.records.schema import Predictions, Quality
from harness.tasks import load_task
from leaderboard.findings.one_answer import POSITIVES, dev_size, gives_one_answer, is_constant


def scored(examples: int, **scores: float) -> Quality:
    return Quality(metric=next(iter(scores)), scores=scores, ci95={}, replicates=[], examples=examples)


@pytest.mark.parametrize("task", POSITIVES)
@pytest.mark.parametrize("answer", [0, 1])
def test_the_scores_are_scikit_learns(task: str, answer: int) -> None:
    positives, examples = POSITIVES[task], dev_size(task)
    labels, answers = [1] * positives + [0] * (examples - positives), [answer] * examples
    scores = {
        "accuracy": 100 * accuracy_score(labels, answers),
        "f1": 100 * f1_score(labels, answers, zero_division=0.0),
        "matthews_correlation": 100 * matthews_corrcoef(labels, answers),
    }
    assert gives_one_answer(task, scored(examples, **scores))
    assert not gives_one_answer(task, scored(examples, **{**scores, "f1": scores["f1"] + 0.3}))


def test_another_dev_split_or_task_is_not_judged() -> None:
    positives, examples = POSITIVES["sst2"], dev_size("sst2")
    score = 100 * positives / examples
    assert not gives_one_answer("sst2", scored(2 * examples, accuracy=score))
    assert not gives_one_answer("another", scored(examples, accuracy=score))


@pytest.mark.parametrize(("answered", "constant"), [((872, 0), True), ((8, 864), True), ((9, 863), False)])
def test_predictions_decide_where_they_are_kept(answered: tuple[int, int], constant: bool) -> None:
    kept = Predictions(rows=872, scores="", answered=answered)
    found = scored(872, accuracy=60.0).model_copy(update={"predictions": kept})
    assert is_constant("sst2", found) is constant
    scores = Predictions(rows=872, scores="")
    assert not is_constant("stsb", found.model_copy(update={"predictions": scores}))


@pytest.mark.parametrize(("others", "constant"), [(0, True), (8, True), (9, False)])
def test_a_regression_that_gives_one_score_is_constant(others: int, constant: bool) -> None:
    values = np.array([2.5] * (872 - others) + list(range(others)), dtype=np.float32)
    found = scored(872, pearson=0.0).model_copy(
        update={"predictions": pack_predictions(values[:, None], None, 1)}
    )
    assert is_constant("stsb", found) is constant


def test_scores_decide_without_predictions() -> None:
    positives, examples = POSITIVES["sst2"], dev_size("sst2")
    assert is_constant("sst2", scored(examples, accuracy=100 * positives / examples))
    assert not is_constant("sst2", scored(examples, accuracy=80.0))


@pytest.mark.skipif(not os.environ.get("SKYLINE_DATA_DIR"), reason="needs the real data")
@pytest.mark.parametrize("task", POSITIVES)
def test_the_counts_are_those_of_the_data(task: str) -> None:
    labels = [example.label for example in load_task(task, os.environ["SKYLINE_DATA_DIR"]).dev()]
    assert (sum(map(float, labels)), len(labels)) == (POSITIVES[task], dev_size(task))
