"""Matthews' correlation coefficient, for any number of classes (Gorodkin, 2004, equation 8)."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

_DESCRIPTION = (
    """The correlation between predicted and gold classes, -1 to 1; 0 if either has only one class."""
)


class MatthewsCorrelation(evaluate.Metric):  # type: ignore[misc]
    """`evaluate` metric `matthews_correlation`: the correlation of classes."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions and references: class ids of equal length",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        predicted, gold = np.asarray(predictions), np.asarray(references)
        classes = np.union1d(predicted, gold)
        # Python integers, for products of counts can overflow.
        as_predicted = [int((predicted == each).sum()) for each in classes]
        as_gold = [int((gold == each).sum()) for each in classes]
        total, right = len(gold), int((predicted == gold).sum())
        covariance = right * total - sum(p * g for p, g in zip(as_predicted, as_gold, strict=True))
        spread = (total**2 - sum(p * p for p in as_predicted)) * (total**2 - sum(g * g for g in as_gold))
        return {"matthews_correlation": covariance / float(spread) ** 0.5 if spread else 0.0}
