"""Detect models that give one answer to every example. A comparison with such a model is void."""

from __future__ import annotations

from harness.records.predictions import share_of_one_answer
from harness.records.schema import Quality
from leaderboard.boards.flags import ONE_ANSWER
from leaderboard.boards.names import GLUE

POSITIVES = {"cola": 721, "mrpc": 279, "rte": 131, "sst2": 444}
"""The number of examples of class 1 in the dev splits of GLUE's tasks with two classes."""


def is_constant(task: str, quality: Quality) -> bool:
    """Check whether a model gives one answer to at least the share `ONE_ANSWER` of the examples.

    Records without predictions are judged by their scores.
    """
    kept = quality.predictions
    if kept is None:
        return gives_one_answer(task, quality)
    share = share_of_one_answer(kept)
    return share is not None and share >= ONE_ANSWER


def dev_size(task: str) -> int:
    """Return the number of examples in the dev split of a task of GLUE."""
    (size,) = dict(GLUE[task].sizes)["dev"]
    return size


def gives_one_answer(task: str, quality: Quality) -> bool:
    """Check whether a model with one answer for all examples would have these scores. False for an unknown task."""
    if task not in POSITIVES or quality.examples != dev_size(task):
        return False
    share = POSITIVES[task] / dev_size(task)
    answers = (
        {"accuracy": share, "f1": 2 * share / (1 + share), "matthews_correlation": 0.0},
        {"accuracy": 1 - share, "f1": 0.0, "matthews_correlation": 0.0},
    )
    return any(
        all(
            name in answer and abs(score - 100 * answer[name]) < 1e-6
            for name, score in quality.scores.items()
        )
        for answer in answers
    )
