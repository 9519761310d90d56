"""Toy tasks for tests and first runs, generated from our own grammars with a fixed seed.

The labels contain no noise: each follows from its text by the rules in `toy_sentiment` and `toy_pairs`. In each
construction, single words say almost nothing about the label; their arrangement decides it.
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
    """Make the toy task with this name."""
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
    """Generate `size` different texts. The text at index i has class i % classes.

    The constructions occur in proportion to their weights. Raises ValueError if they cannot make `size` different
    texts.
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
    """Generate one split. Both splits come from one list of different texts, so they do not overlap."""
    made = generate(constructions, classes, TRAIN_SIZE + DEV_SIZE, SEED)
    part = range(TRAIN_SIZE) if split == "train" else range(TRAIN_SIZE, TRAIN_SIZE + DEV_SIZE)
    order = Choices(SEED + 1).some(part, len(part))
    examples = (Example(*made[index], index % classes, f"{split}-{n}") for n, index in enumerate(order))
    return tuple(examples)
