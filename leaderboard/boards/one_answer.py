"""Which scores a model has that gives one answer to every example: a difference from such a model says little."""

from __future__ import annotations

from harness.records.schema import Quality

POSITIVES = {"cola": (721, 1043), "mrpc": (279, 408), "rte": (131, 277), "sst2": (444, 872)}
"""Examples of class 1, and all, in the dev splits of GLUE's tasks of two classes."""


def gives_one_answer(task: str, quality: Quality) -> bool:
    """Whether all of the scores are those of one answer for every example. False of a task that is not known."""
    if task not in POSITIVES or quality.examples != POSITIVES[task][1]:
        return False
    positives, examples = POSITIVES[task]
    share = positives / examples
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
