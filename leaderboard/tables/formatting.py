"""Write figures for people: with separators, a true minus sign, and a dash for a missing figure."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from leaderboard.boards.bootstrap import Interval
from leaderboard.tables.model import MISSING

MINUS = "\u2212"


def number(value: float | None, decimals: int, sign: bool = False) -> str:
    """Write a figure with thousands separators, halves rounded away from zero; a dash for None."""
    if value is None:
        return MISSING
    rounded = Decimal(repr(value)).quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_HALF_UP)
    if rounded == 0:
        return f"{abs(rounded):.{decimals}f}"
    return f"{rounded:{'+' if sign else ''},.{decimals}f}".replace("-", MINUS)


def points(value: float | None, ci95: Interval | None = None) -> str:
    """Write a drop in points, such as `−0.46 [−0.92, 0.00]`."""
    if value is None:
        return MISSING
    return number(value, 2) + (f" [{number(ci95[0], 2)}, {number(ci95[1], 2)}]" if ci95 else "")


def score(value: float | None, ci95: Interval | None = None) -> str:
    """Write a score in points, such as `91.3 ± 1.9`; after ± stands half the width of its interval."""
    if value is None:
        return MISSING
    return number(value, 1) + (f" ± {number((ci95[1] - ci95[0]) / 2, 1)}" if ci95 else "")


def megabytes(value: int | None) -> str:
    """Write bytes as MB (10^6), with two decimals below 10 MB."""
    if value is None:
        return MISSING
    return number(value / 1e6, 2 if value < 10e6 else 1)


def gigaflops(value: int | None) -> str:
    """Write FLOPs as GFLOPs (10^9)."""
    return MISSING if value is None else number(value / 1e9, 2)


def speedup(value: float | None, ci95: Interval | None, verdict: str | None) -> str:
    """Write a speedup, such as `2.31× [2.27, 2.36]`, or `no verdict` if its interval was too wide."""
    if value is None:
        return "no verdict" if verdict == "none" else MISSING
    interval = f" [{number(ci95[0], 2)}, {number(ci95[1], 2)}]" if ci95 else ""
    return f"{number(value, 2)}×{interval}"
