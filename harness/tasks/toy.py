"""The toy tasks: generated from grammars of our own with a fixed seed, for tests and first runs.

Nothing in them is noise: every label follows from its sentence by the rules that `toy_sentiment` and
`toy_pairs` state. In each construction single words say next to nothing of the label: their arrangement does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from harness.tasks import toy_pairs, toy_sentiment
from harness.tasks.base import Example, Task
from harness.tasks.toy_grammar import Choices, Construction, Texts

SEED = 20180219
TRAIN_SIZE = 8000
DEV_SIZE = 1000


def task(name: str) -> Task:
    """The toy task of that name."""
    module = {"toy-sentiment": toy_sentiment, "toy-pairs": toy_pairs}[name]
    return Task(
        name=name,
        title=name,
        kind="classification",
        labels=module.LABELS,
        metrics=("accuracy",),
        metric="accuracy",
        max_length=module.MAX_LENGTH,
        synthetic=True,
        loader=partial(_load, module.CONSTRUCTIONS, len(module.LABELS)),
        source="generated",
    )


def generate(
    constructions: Sequence[tuple[Construction, int]], classes: int, size: int, seed: int
) -> list[Texts]:
    """Different examples in proportion to the constructions' weights, that at index i of class i % classes.

    Raises `ValueError` where the constructions cannot make that many.
    """
    choices = Choices(seed)
    schedule = [construction for construction, weight in constructions for _ in range(weight)]
    seen: set[Texts] = set()
    made: list[Texts] = []
    for _ in range(20 * size):
        construction = schedule[len(made) // classes % len(schedule)]
        texts = construction(choices, len(made) % classes)
        if texts not in seen:
            seen.add(texts)
            made.append(texts)
        if len(made) == size:
            return made
    raise ValueError(f"the grammar gave only {len(made)} of {size} different examples")


def _load(constructions: Sequence[tuple[Construction, int]], classes: int, split: str) -> tuple[Example, ...]:
    """One split: both come from one list without repetition, so that they do not overlap."""
    made = generate(constructions, classes, TRAIN_SIZE + DEV_SIZE, SEED)
    part = range(TRAIN_SIZE) if split == "train" else range(TRAIN_SIZE, TRAIN_SIZE + DEV_SIZE)
    order = Choices(SEED + 1).some(part, len(part))
    examples = (Example(*made[index], index % classes, f"{split}-{n}") for n, index in enumerate(order))
    return tuple(examples)
