"""The mark of a family: a colour and a shape, so that readers need not rely on either of them.

The colours come from the sets of Okabe & Ito (2008) and Tol (2021), which readers with any colour vision tell apart.
A shape is an SVG path in the square from -1 to 1; Vega and the page's legend draw the same path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import cos, pi, sin
from types import MappingProxyType


@dataclass(frozen=True)
class Mark:
    """A fill colour and an SVG path."""

    colour: str
    path: str


def _polygon(corners: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.3g},{y:.3g}" for x, y in corners) + "Z"


def _round(count: int, turn: float = 0.0, inner: float | None = None) -> str:
    """Make a regular polygon with `count` corners, or a star if `inner`, its inner radius, is given."""
    radii = [1.0] if inner is None else [1.0, inner]
    steps = count * len(radii)
    angles = [2 * pi * (index / steps + turn) - pi / 2 for index in range(steps)]
    return _polygon(
        (radii[index % len(radii)] * cos(angle), radii[index % len(radii)] * sin(angle))
        for index, angle in enumerate(angles)
    )


_CIRCLE = "M-1,0A1,1,0,1,1,1,0A1,1,0,1,1,-1,0Z"
_SQUARE = _polygon([(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)])
_THIRD = 0.33
_PLUS = _polygon(
    corner
    for x, y in ((1, -1), (1, 1), (-1, 1), (-1, -1))
    for corner in (
        ((_THIRD * x, y), (_THIRD * x, _THIRD * y), (x, _THIRD * y))
        if x * y < 0
        else ((x, _THIRD * y), (_THIRD * x, _THIRD * y), (_THIRD * x, y))
    )
)
_CROSS = _polygon(
    corner
    for x, y in ((1, 0), (0, 1), (-1, 0), (0, -1))
    for corner in (
        (0.4 * x, 0.4 * y),
        (x - 0.6 * y if x else 0.6 * -y, y + 0.6 * x if y else 0.6 * x),
        (0.6 * x - y, 0.6 * y + x),
    )
)
_HOURGLASS = _polygon([(-0.9, -0.9), (0.9, -0.9), (-0.9, 0.9), (0.9, 0.9)])

MARKS: Mapping[str, Mark] = MappingProxyType(
    {
        "baseline": Mark("#888888", _round(4, inner=0.4)),
        "quantization": Mark("#0072B2", _CIRCLE),
        "unstructured-pruning": Mark("#D55E00", _round(3)),
        "structured-pruning": Mark("#E69F00", _SQUARE),
        "distillation": Mark("#009E73", _round(4)),
        "matrix-decomposition": Mark("#CC79A7", _PLUS),
        "attention-decomposition": Mark("#56B4E9", _CROSS),
        "early-exit": Mark("#882255", _round(3, turn=0.5)),
        "dynamic-inference": Mark("#882255", _HOURGLASS),
        "word-vector-elimination": Mark("#AA4499", _round(3, turn=0.25)),
        "parameter-sharing": Mark("#332288", _round(6)),
        "embedding-compression": Mark("#999933", _round(5)),
        "weight-squeezing": Mark("#44AA99", _round(3, turn=0.75)),
        "controls": Mark("#555555", _round(6, inner=0.5)),
        "combination": Mark("#CC6677", _round(5, inner=0.45)),
        "smaller-pretrained": Mark("#88CCEE", _SQUARE),
    }
)
OTHER = Mark("#DDCC77", _round(8))
"""The mark of a family that is not in `MARKS`."""


def mark(family: str) -> Mark:
    """Return the mark of a family."""
    return MARKS.get(family, OTHER)
