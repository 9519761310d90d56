"""Exact match and F1 of SQuAD (Rajpurkar et al., 2016, section 6.1), with the official normalisation.

Case, ASCII punctuation, English articles and repeated white space are ignored. F1 compares the remaining bags of
words. If there are several gold answers, the best one counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable
from typing import Any

import datasets
import evaluate
import numpy as np

_DESCRIPTION = (
    """Exact match and F1 of predicted answers, 0 to 100 both; inputs as in `evaluate`'s own module."""
)

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")


class Squad(evaluate.Metric):  # type: ignore[misc]
    """`evaluate` metric `squad`: `exact_match` and `f1`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description="predictions: id, prediction_text; references: id, answers",
            features=datasets.Features(
                {
                    "predictions": {
                        "id": datasets.Value("string"),
                        "prediction_text": datasets.Value("string"),
                    },
                    "references": {
                        "id": datasets.Value("string"),
                        "answers": datasets.Sequence(
                            {"text": datasets.Value("string"), "answer_start": datasets.Value("int32")}
                        ),
                    },
                }
            ),
        )

    def _compute(self, predictions: Any, references: Any) -> dict[str, float]:
        texts = {row["id"]: row["prediction_text"] for row in predictions}
        scores = [example_scores(texts[row["id"]], row["answers"]["text"]) for row in references]
        exact, f1 = np.mean(np.array(scores), axis=0)
        return {"exact_match": 100.0 * float(exact), "f1": 100.0 * float(f1)}


def example_scores(prediction: str, answers: Iterable[str]) -> tuple[float, float]:
    """Return exact match and F1 of one prediction, 0 to 1 each: the best over its gold answers."""
    pairs = [_against(prediction, answer) for answer in answers]
    return max(exact for exact, _ in pairs), max(f1 for _, f1 in pairs)


def normalise(text: str) -> list[str]:
    """Return the words of `text` in lower case, without ASCII punctuation and articles."""
    return _ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _against(prediction: str, answer: str) -> tuple[float, float]:
    found, gold = normalise(prediction), normalise(answer)
    shared = sum((Counter(found) & Counter(gold)).values())
    f1 = 2.0 * shared / (len(found) + len(gold)) if shared else 0.0
    return float(found == gold), f1
