"""Spearman's rank correlation coefficient; ties share their mean rank."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

_DESCRIPTION = (
    """The correlation of the ranks of predictions and references, -1 to 1; 0 if either is constant."""
)


class Spearman(evaluate.Metric):  # type: ignore[misc]
    """`evaluate` metric `spearman`: rank correlation."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions and references: numbers of equal length",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        x, y = _ranks(np.asarray(predictions)), _ranks(np.asarray(references))
        if np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
            return {"spearman": 0.0}
        dx, dy = x - x.mean(), y - y.mean()
        value = float(dx @ dy / (np.linalg.norm(dx) * np.linalg.norm(dy)))
        return {"spearman": min(1.0, max(-1.0, value))}


def _ranks(values: Any) -> Any:
    """Rank values from 1. Equal values share their mean rank."""
    _, position, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2.0)[position]
