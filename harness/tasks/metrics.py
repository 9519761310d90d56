"""Compute a task's metrics and their bootstrap. The metrics are our own `evaluate` modules, which load offline.

Every figure is in points: 0 to 100, for correlations -100 to 100.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from harness.common.errors import Code, SkylineError
from harness.common.lazy import lazy_imports
from harness.tasks import modules, resampling
from harness.tasks.base import Kind, Span

with lazy_imports():
    from harness.tasks.evaluate_modules.squad import squad  # imports `evaluate`


class Scored(Protocol):
    """The fields of `Task` and `TrainingView` that scoring needs."""

    @property
    def name(self) -> str:
        """Name for error messages."""

    @property
    def kind(self) -> Kind:
        """Kind of prediction."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes in the order of their ids; () for regression and span."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics to compute."""


def compute(task: Scored, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, float]:
    """Compute every metric of the task, in points.

    Args:
        task: gives the metrics and the kind of prediction.
        predictions: class ids (classification), numbers (regression) or answer texts (span), one for each example.
        references: the gold labels in the same order: class ids, scores or `Span`s.

    Raises SkylineError: `conflict` if the numbers of predictions and references differ, `no-data` if there are no
    references, `out-of-range` for a bad class id, `not-finite` for a NaN or infinite number, `wrong-kind` for an
    answer that is not text, `incomplete` for a question without a gold answer.
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
    """Compute every metric on resampled examples, in points: an array of shape (replicates,) for each metric.

    Replicate b draws the same rows for every model on the same examples. The difference of two models' arrays is
    therefore a paired bootstrap of their difference (Efron and Tibshirani, 1993, chapter 8).

    Raises SkylineError as `compute` does, and `out-of-range` for fewer than 1 replicate.
    """
    if replicates < 1:
        raise SkylineError(
            f"the number of bootstrap replicates must be at least 1, not {replicates}", Code.OUT_OF_RANGE
        )
    if task.kind == "span":
        texts, spans = _spans(task, predictions, references)
        scores = np.array(
            [squad.example_scores(text, span.texts) for text, span in zip(texts, spans, strict=True)]
        )  # (examples, 2)
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
    """Return the percentile interval that holds the share `level` of the replicates, in their unit.

    Raises SkylineError (`out-of-range`) if `level` does not lie between 0 and 1.
    """
    if not 0.0 < level < 1.0:
        raise SkylineError(
            f"the level of an interval must lie between 0 and 1, not {level}", Code.OUT_OF_RANGE
        )
    tail = (1.0 - level) / 2.0
    low, high = np.quantile(np.asarray(replicates, dtype=np.float64), [tail, 1.0 - tail])
    return float(low), float(high)


def _numbers(
    task: Scored, predictions: Sequence[Any], references: Sequence[Any]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Check predictions and references and return them as arrays of shape (examples,)."""
    predicted, gold = np.asarray(predictions), np.asarray(references)
    _same_length(task, len(predicted), len(gold))
    if task.kind == "regression":
        predicted, gold = predicted.astype(np.float64).ravel(), gold.astype(np.float64).ravel()
        if not (np.isfinite(predicted).all() and np.isfinite(gold).all()):
            raise SkylineError(
                f"{task.name}: predictions and references must be finite numbers", Code.NOT_FINITE
            )
        return predicted, gold
    for what, ids in (("prediction", predicted), ("reference", gold)):
        if not np.issubdtype(ids.dtype, np.integer) or ids.min() < 0 or ids.max() >= len(task.labels):
            raise SkylineError(
                f"{task.name}: a {what} is not a class id from 0 to {len(task.labels) - 1}", Code.OUT_OF_RANGE
            )
    return predicted.astype(np.int64), gold.astype(np.int64)


def _spans(
    task: Scored, predictions: Sequence[str], references: Sequence[Span]
) -> tuple[Sequence[str], Sequence[Span]]:
    """Check predicted texts and gold spans and return them."""
    _same_length(task, len(predictions), len(references))
    if not all(isinstance(text, str) for text in predictions):
        raise SkylineError(f"{task.name}: predictions must be answer texts", Code.WRONG_KIND)
    if not all(isinstance(span, Span) and span.texts for span in references):
        raise SkylineError(f"{task.name}: every question needs at least one gold answer", Code.INCOMPLETE)
    return predictions, references


def _same_length(task: Scored, predicted: int, gold: int) -> None:
    if predicted != gold or gold == 0:
        raise SkylineError(
            f"{task.name}: {predicted} predictions for {gold} references; each example needs one of both",
            Code.CONFLICT if gold else Code.NO_DATA,
        )
