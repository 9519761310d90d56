"""Pack predictions into a record and read them back, so that any later test is possible without the artifact."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from harness.records.schema import Predictions

_SCORE = np.dtype("<f2")


def pack_predictions(
    logits: npt.NDArray[np.float32], labels: Sequence[int] | None, classes: int
) -> Predictions:
    """Pack the logits (N, outputs) of N rows. `labels` are their classes; None for regression.

    The scores of two classes are their difference, so that rounding to float16 changes no answer.
    """
    if labels is None:
        return Predictions(rows=len(logits), scores=_text(logits[:, 0].astype(_SCORE)))
    answers = logits.argmax(axis=1)  # (N,)
    scores = logits[:, 1] - logits[:, 0] if classes == 2 else logits  # (N,) or (N, classes)
    gold = np.asarray(labels)
    return Predictions(
        rows=len(logits),
        scores=_text(scores.astype(_SCORE)),
        correct=_text(np.packbits(answers == gold)),
        answered=tuple(np.bincount(answers, minlength=classes).tolist()),
        majority=100.0 * float(np.bincount(gold, minlength=classes).max()) / len(gold),
    )


def unpack_scores(packed: Predictions) -> npt.NDArray[np.float32]:
    """Return the scores as float32: (N,), or (N, classes) for more than two classes."""
    values = np.frombuffer(base64.b64decode(packed.scores), _SCORE).astype(np.float32)
    return values if len(values) == packed.rows else values.reshape(packed.rows, -1)


def unpack_correct(packed: Predictions) -> npt.NDArray[np.bool_] | None:
    """Return which rows were answered correctly, (N,); None for regression."""
    if packed.correct is None:
        return None
    bits = np.unpackbits(np.frombuffer(base64.b64decode(packed.correct), np.uint8), count=packed.rows)
    return bits.astype(bool)


def share_of_one_answer(packed: Predictions) -> float | None:
    """Return the share of the rows that get the most frequent answer; None if answers are not kept.

    An answer of a regression is its score, rounded to float16 as it is kept.
    """
    if packed.answered is not None:
        counts = packed.answered
    elif packed.correct is None and packed.scores:
        counts = tuple(np.unique(unpack_scores(packed), return_counts=True)[1].tolist())
    else:
        return None
    return max(counts, default=0) / packed.rows if packed.rows else None


def _text(values: npt.NDArray[np.generic]) -> str:
    return base64.b64encode(values.tobytes()).decode("ascii")
