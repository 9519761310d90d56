"""Parts of the toy tasks' grammars: seeded choices and constructions."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeAlias, TypeVar

T = TypeVar("T")
Texts: TypeAlias = tuple[str, str | None]


class Choices:
    """Seeded random choices. They use only `random.Random.random`, whose values are the same in every Python."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)

    def one(self, items: Sequence[T]) -> T:
        """Return one of the items."""
        return items[int(self._rng.random() * len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """Return `count` different items in random order."""
        return sorted(items, key=lambda _: self._rng.random())[:count]

    def chance(self, probability: float = 0.5) -> bool:
        """Return True with this probability."""
        return self._rng.random() < probability


Construction: TypeAlias = Callable[[Choices, int], Texts]
"""Makes the text and second text (or None) of one example of the given class."""


def sentence(text: str) -> str:
    """Add a capital letter and a full stop."""
    return text[0].upper() + text[1:] + "."
