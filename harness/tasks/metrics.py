"""The metrics of a task, through `evaluate` modules of our own that load offline, and their bootstrap.

Every figure is in points, 0 to 100 (correlations -100 to 100).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from harness.common.errors import SkylineError
from harness.common.lazy import lazy_imports
from harness.tasks import modules, resampling
from harness.tasks.base import Kind, Span

with lazy_imports():
    from harness.tasks.evaluate_modules.squad import squad  # which loads `evaluate`


class Scored(Protocol):
    """What scoring needs to know: a `Task` and a `TrainingView` both have it."""

    @property
    def name(self) -> str:
        """The name that errors give."""

    @property
    def kind(self) -> Kind:
        """What the predictions are."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """What to compute."""


def compute(task: Scored, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
    """Every metric of the task, in points.

    Args:
        task: says which metrics, and how predictions look.
        predictions: class ids (classification), numbers (regression) or answer texts (span).
        references: the gold labels in the same order: class ids, scores or `Span`s.

    Raises `SkylineError` for predictions that do not fit the task: another number of them, a class id out of
    range, a number that is not finite.
    """
    if task.kind == "span":
        texts, spans = _spans(task, predictions, references)
        answers = [{"text": list(span.texts), "answer_start": list(span.starts)} for span in spans]
        result = modules.load("squad").compute(
            predictions=[{"id": str(i), "prediction_text": text} for i, text in enumerate(texts)],
            references=[{"id": str(i), "answers": answer} for i, answer in enumerate(answers)],
        )
        return {metric: float(result[metric]) for metric in task.metrics}
    predicted, gold = _numbers(task, predictions, references)
    return {
        metric: 100.0 * float(modules.load(metric).compute(predictions=predicted, references=gold)[metric])
        for metric in task.metrics
    }


def bootstrap(
    task: Scored, predictions: Sequence[Any], references: Sequence[Any], replicates: int = 1000
) -> dict[str, resampling.Floats]:
    """Every metric of the task on resampled examples, in points: one array of shape (replicates,) a metric.

    Replicate b of two models on the same examples draws the same rows, so that the difference of their arrays
    is a paired bootstrap of the difference (Efron and Tibshirani, 1993, chapter 8). Raises as `compute` does.
    """
    if replicates < 1:
        raise SkylineError(f"the number of bootstrap replicates must be at least 1, not {replicates}")
    if task.kind == "span":
        texts, spans = _spans(task, predictions, references)
        scores = np.array(
            [squad.example_scores(text, span.texts) for text, span in zip(texts, spans, strict=True)]
        )
        columns = {"exact_match": scores[:, 0], "f1": scores[:, 1]}
        return resampling.replicate(
            len(texts),
            replicates,
            {metric: resampling.mean_of(100.0 * columns[metric]) for metric in task.metrics},
        )
    predicted, gold = _numbers(task, predictions, references)
    statistics = {
        metric: resampling.STATISTICS[metric](predicted, gold, len(task.labels)) for metric in task.metrics
    }
    return {
        metric: 100.0 * values
        for metric, values in resampling.replicate(len(gold), replicates, statistics).items()
    }


def interval(replicates: npt.ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval that holds the share `level` of the replicates, in their unit."""
    if not 0.0 < level < 1.0:
        raise SkylineError(f"the level of an interval must lie between 0 and 1, not {level}")
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(np.asarray(replicates, dtype=np.float64), [tail, 1.0 - tail])
    return float(low), float(high)


def _numbers(
    task: Scored, predictions: Sequence[Any], references: Sequence[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Predictions and references as arrays, checked."""
    predicted, gold = np.asarray(predictions), np.asarray(references)
    _same_length(task, len(predicted), len(gold))
    if task.kind == "regression":
        predicted, gold = predicted.astype(np.float64).ravel(), gold.astype(np.float64).ravel()
        if not (np.isfinite(predicted).all() and np.isfinite(gold).all()):
            raise SkylineError(f"{task.name}: predictions that are no finite numbers cannot be scored")
        return predicted, gold
    for what, ids in (("prediction", predicted), ("reference", gold)):
        if not np.issubdtype(ids.dtype, np.integer) or ids.min() < 0 or ids.max() >= len(task.labels):
            raise SkylineError(f"{task.name}: a {what} is no class id from 0 to {len(task.labels) - 1}")
    return predicted.astype(np.int64), gold.astype(np.int64)


def _spans(
    task: Scored, predictions: Sequence[str], references: Sequence[Span]
) -> tuple[Sequence[str], Sequence[Span]]:
    """Predicted texts and gold spans, checked."""
    _same_length(task, len(predictions), len(references))
    if not all(isinstance(text, str) for text in predictions):
        raise SkylineError(f"{task.name}: predictions must be answer texts")
    if not all(isinstance(span, Span) and span.texts for span in references):
        raise SkylineError(f"{task.name}: every question needs at least one gold answer")
    return predictions, references


def _same_length(task: Scored, predicted: int, gold: int) -> None:
    if predicted != gold or gold == 0:
        raise SkylineError(f"{task.name}: {predicted} predictions for {gold} references")
