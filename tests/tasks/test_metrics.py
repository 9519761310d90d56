from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.common.errors import Code
from harness.tasks import metrics, resampling
from harness.tasks.base import Example, Kind, Span, Task
from tests.support.one_line_errors import refused
from tests.support.task_files import memory_task

random_inputs = settings(deadline=None, max_examples=40)

ROW = (Example("text", None, 0),)


def task(kind: Kind, classes: int = 2, names: tuple[str, ...] = ()) -> Task:
    labels = tuple(str(n) for n in range(classes)) if kind == "classification" else ()
    return memory_task(kind, ROW, ROW, labels, names)


BINARY = task("classification", 2)
FOUR = task("classification", 4, ("accuracy", "matthews_correlation"))
SCORES = task("regression")
SPANS = task("span")


def pairs(values: st.SearchStrategy[Any], smallest: int = 2) -> st.SearchStrategy[list[tuple[Any, Any]]]:
    return st.lists(st.tuples(values, values), min_size=smallest, max_size=60)


@pytest.mark.filterwarnings("ignore:A single label was found")
@random_inputs
@given(pairs(st.integers(0, 1), 1))
def test_two_classes_agree_with_scikit_learn(rows: list[tuple[int, int]]) -> None:
    predicted, gold = (list(column) for column in zip(*rows, strict=True))
    found = metrics.compute(BINARY, predicted, gold)
    assert found == pytest.approx(
        {
            "accuracy": 100 * sklearn.metrics.accuracy_score(gold, predicted),
            "f1": 100 * sklearn.metrics.f1_score(gold, predicted, zero_division=0),
            "matthews_correlation": 100 * sklearn.metrics.matthews_corrcoef(gold, predicted),
        },
        abs=1e-9,
    )


@pytest.mark.filterwarnings("ignore:A single label was found")
@random_inputs
@given(pairs(st.integers(0, 3), 1))
def test_many_classes_agree_with_scikit_learn(rows: list[tuple[int, int]]) -> None:
    predicted, gold = (list(column) for column in zip(*rows, strict=True))
    found = metrics.compute(FOUR, np.array(predicted), np.array(gold))
    assert found == pytest.approx(
        {
            "accuracy": 100 * sklearn.metrics.accuracy_score(gold, predicted),
            "matthews_correlation": 100 * sklearn.metrics.matthews_corrcoef(gold, predicted),
        },
        abs=1e-9,
    )


# Few different values, so that ties are common; and any values.
@random_inputs
@given(pairs(st.integers(-3, 3).map(float)) | pairs(st.floats(-1e6, 1e6).map(lambda x: round(x, 3))))
def test_correlations_agree_with_scipy(rows: list[tuple[float, float]]) -> None:
    predicted, gold = (list(column) for column in zip(*rows, strict=True))
    found = metrics.compute(SCORES, predicted, gold)
    if len(set(predicted)) == 1 or len(set(gold)) == 1:
        assert found == {"pearson": 0.0, "spearman": 0.0}
        return
    assert found == pytest.approx(
        {
            "pearson": 100 * scipy.stats.pearsonr(predicted, gold).statistic,
            "spearman": 100 * scipy.stats.spearmanr(predicted, gold).statistic,
        },
        abs=1e-6,
    )


def test_a_constant_prediction_scores_zero_not_nan() -> None:
    gold = [0, 1, 1, 0, 1]
    assert metrics.compute(BINARY, [0] * 5, gold) == {
        "accuracy": 40.0,
        "f1": 0.0,
        "matthews_correlation": 0.0,
    }
    assert metrics.compute(BINARY, [1] * 5, gold)["matthews_correlation"] == 0.0
    assert metrics.compute(SCORES, [0.1] * 5, [0.0, 1.0, 2.0, 3.0, 4.5]) == {"pearson": 0.0, "spearman": 0.0}
    for values in metrics.bootstrap(SCORES, [0.1] * 5, [0.0, 1.0, 2.0, 3.0, 4.5], 50).values():
        assert (values == 0.0).all()
    for name in ("f1", "matthews_correlation"):
        assert (metrics.bootstrap(BINARY, [0] * 5, gold, 50)[name] == 0.0).all()


def test_perfect_and_opposite_predictions_are_the_ends_of_the_scale() -> None:
    gold = [0, 1, 1, 0, 1]
    assert metrics.compute(BINARY, gold, gold) == {
        "accuracy": 100.0,
        "f1": 100.0,
        "matthews_correlation": 100.0,
    }
    assert metrics.compute(BINARY, [1 - g for g in gold], gold)["matthews_correlation"] == -100.0
    scores = [0.5, 2.0, 5.0]
    assert metrics.compute(SCORES, scores, scores) == pytest.approx({"pearson": 100.0, "spearman": 100.0})
    monotone = metrics.compute(SCORES, [0.0, 0.1, 900.0], scores)
    assert monotone["spearman"] == pytest.approx(100.0)
    assert monotone["pearson"] < 95.0


# Calculated by hand from the rules of the official script: it ignores case, punctuation and articles, and counts the
# best answer.
SQUAD_CASES = [
    ("1976", ("1976",), 100.0, 100.0),
    ("The  Broncos!", ("broncos",), 100.0, 100.0),
    ("Denver Broncos", ("Broncos",), 0.0, 100.0 * 2 * 1 / 3),
    ("a cat, a dog", ("cat dog bird",), 0.0, 100.0 * 2 * 2 / 5),
    ("Beyonce", ("Beyoncé and Bruno Mars",), 0.0, 0.0),
    ("in the red house", ("house", "the red house", "blue"), 0.0, 100.0 * 2 * 2 / 5),
    ("dog dog dog", ("dog",), 0.0, 100.0 * 2 * 1 / 4),
    ("theatre", ("the atre",), 0.0, 0.0),
    ("don't", ("dont",), 100.0, 100.0),
    ("", ("something",), 0.0, 0.0),
    ("the", ("a",), 100.0, 0.0),
]


@pytest.mark.parametrize(("prediction", "answers", "exact", "f1"), SQUAD_CASES)
def test_squad_by_hand(prediction: str, answers: tuple[str, ...], exact: float, f1: float) -> None:
    found = metrics.compute(SPANS, [prediction], [Span(answers, (0,) * len(answers))])
    assert found == pytest.approx({"exact_match": exact, "f1": f1})


def test_squad_is_the_mean_over_questions() -> None:
    found = metrics.compute(
        SPANS,
        [case[0] for case in SQUAD_CASES],
        [Span(case[1], (0,) * len(case[1])) for case in SQUAD_CASES],
    )
    assert found["exact_match"] == pytest.approx(np.mean([case[2] for case in SQUAD_CASES]))
    assert found["f1"] == pytest.approx(np.mean([case[3] for case in SQUAD_CASES]))


def test_a_training_view_can_be_scored() -> None:
    assert metrics.compute(BINARY.training_view(), [1, 0], [1, 1])["accuracy"] == 50.0


BAD = [
    (BINARY, [0, 1], [0], Code.CONFLICT, ("2 predictions", "1 references")),
    (BINARY, [], [], Code.NO_DATA, ("0 predictions", "0 references")),
    (BINARY, [0, 2], [0, 1], Code.OUT_OF_RANGE, ("prediction", "0 to 1")),
    (BINARY, [0, -1], [0, 1], Code.OUT_OF_RANGE, ("prediction", "0 to 1")),
    (BINARY, [0.0, 1.0], [0, 1], Code.OUT_OF_RANGE, ("prediction", "0 to 1")),
    (BINARY, [0, 1], [0, 5], Code.OUT_OF_RANGE, ("reference", "0 to 1")),
    (SCORES, [0.0, math.nan], [0.0, 1.0], Code.NOT_FINITE, ()),
    (SCORES, [0.0, math.inf], [0.0, 1.0], Code.NOT_FINITE, ()),
    (SPANS, [3], [Span(("a",), (0,))], Code.WRONG_KIND, ("predictions",)),
    (SPANS, ["a"], [Span((), ())], Code.INCOMPLETE, ("gold answer",)),
]


@pytest.mark.parametrize(("task", "predictions", "references", "code", "named"), BAD)
def test_predictions_that_do_not_fit_are_refused(
    task: Task, predictions: list[Any], references: list[Any], code: Code, named: tuple[str, ...]
) -> None:
    for function in (metrics.compute, metrics.bootstrap):
        with refused(code, "memory", *named):
            function(task, predictions, references)


def data(kind: str, size: int, seed: int) -> tuple[Task, list[Any], list[Any]]:
    rng = np.random.default_rng(seed)
    if kind == "regression":
        gold = np.round(rng.uniform(0, 5, size) * 2) / 2
        return SCORES, list(np.round(gold + rng.normal(0, 1, size), 1)), list(gold)
    if kind == "span":
        words = ["red", "the", "house", "of", "cards"]
        draw = lambda: " ".join(rng.choice(words, rng.integers(1, 4)))  # noqa: E731
        return SPANS, [draw() for _ in range(size)], [Span((draw(), draw()), (0, 0)) for _ in range(size)]
    classes = int(kind)
    gold = rng.integers(0, classes, size)
    predicted = np.where(rng.random(size) < 0.7, gold, rng.integers(0, classes, size))
    return {2: BINARY, 4: FOUR}[classes], list(predicted), list(gold)


@pytest.mark.parametrize("kind", ["2", "4", "regression", "span"])
@pytest.mark.parametrize(("size", "seed"), [(3, 1), (37, 2)])
def test_replicates_are_the_metric_on_resampled_rows(kind: str, size: int, seed: int) -> None:
    task, predicted, gold = data(kind, size, seed)
    replicates = 12
    rows = np.concatenate(list(resampling.draws(size, replicates)))
    found = metrics.bootstrap(task, predicted, gold, replicates)
    assert set(found) == set(task.metrics)
    for replicate, drawn in enumerate(rows):
        expected = metrics.compute(task, [predicted[i] for i in drawn], [gold[i] for i in drawn])
        assert {name: values[replicate] for name, values in found.items()} == pytest.approx(
            expected, abs=1e-9
        )


def test_resampling_depends_on_the_two_numbers_only_and_is_uniform() -> None:
    once, again = (np.concatenate(list(resampling.draws(50, 400))) for _ in range(2))
    assert (once == again).all()
    assert once.shape == (400, 50)
    assert (once >= 0).all()
    assert (once < 50).all()
    assert scipy.stats.chisquare(np.bincount(once.ravel(), minlength=50)).pvalue > 1e-3
    # The first replicates do not change with the number of replicates.
    assert (np.concatenate(list(resampling.draws(50, 10))) == once[:10]).all()


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    task, predicted, gold = data("regression", 30, 5)
    whole = metrics.bootstrap(task, predicted, gold, 25)
    monkeypatch.setattr(resampling, "_CHUNK", 100)
    parts = metrics.bootstrap(task, predicted, gold, 25)
    for name, values in whole.items():
        np.testing.assert_allclose(parts[name], values, rtol=0, atol=1e-10)


def test_two_models_are_paired() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 2, 400)
    one = np.where(rng.random(400) < 0.9, gold, 1 - gold)
    other = one.copy()
    other[0] = 1 - other[0]
    difference = (
        metrics.bootstrap(BINARY, one, gold)["accuracy"] - metrics.bootstrap(BINARY, other, gold)["accuracy"]
    )
    # One example apart: a replicate differs by as often as it draws that example.
    assert set(np.round(np.abs(difference) / 0.25, 6)) <= set(range(20))
    assert difference.std() < 0.5


def test_the_interval_agrees_with_the_closed_form() -> None:
    gold = np.ones(1000, dtype=int)
    predicted = np.concatenate([np.ones(900, dtype=int), np.zeros(100, dtype=int)])
    low, high = metrics.interval(metrics.bootstrap(BINARY, predicted, gold, 4000)["accuracy"])
    half = 100 * 1.959964 * math.sqrt(0.9 * 0.1 / 1000)
    assert low == pytest.approx(90 - half, abs=0.2)
    assert high == pytest.approx(90 + half, abs=0.2)


def test_the_interval_holds_its_share() -> None:
    values = np.arange(1001, dtype=float)
    assert metrics.interval(values) == pytest.approx((25.0, 975.0))
    assert metrics.interval(values, 0.5) == pytest.approx((250.0, 750.0))
    for level in (0.0, 1.0, -1.0):
        with refused(Code.OUT_OF_RANGE, "level", str(level)):
            metrics.interval(values, level)


def test_no_replicates_are_refused() -> None:
    with refused(Code.OUT_OF_RANGE, "replicates", "1", "0"):
        metrics.bootstrap(BINARY, [0], [0], 0)
