"""Pearson's correlation coefficient."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

_DESCRIPTION = (
    """The linear correlation between predictions and references, -1 to 1; 0 if either is constant."""
)


class Pearson(evaluate.Metric):  # type: ignore[misc]
    """`evaluate` metric `pearson`: linear correlation."""

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
        x, y = np.asarray(predictions, dtype=np.float64), np.asarray(references, dtype=np.float64)
        if np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
            return {"pearson": 0.0}
        dx, dy = x - x.mean(), y - y.mean()
        value = float(dx @ dy / (np.linalg.norm(dx) * np.linalg.norm(dy)))
        return {"pearson": min(1.0, max(-1.0, value))}
