"""F1 of the positive class (id 1) of two."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate
import numpy as np

_DESCRIPTION = """The harmonic mean of precision and recall of class 1, 0 to 1; 0 if class 1 never occurs."""


class F1(evaluate.Metric):  # type: ignore[misc]
    """`evaluate` metric `f1`: the positive class of two."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions and references: class ids, 0 or 1, of equal length",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        predicted, gold = np.asarray(predictions) == 1, np.asarray(references) == 1
        marked = int(predicted.sum() + gold.sum())
        return {"f1": 2.0 * int((predicted & gold).sum()) / marked if marked else 0.0}
