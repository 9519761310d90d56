"""Errors that a user can cause and mend. The command prints each as one line and exits with status 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SkylineError(Exception):
    """A user's mistake: its message is one line that says what is wrong and what to do."""


class NotComparable(SkylineError):
    """Two things that must not stand on one board, or in one ratio."""


class Unsupported(SkylineError):
    """What a runtime cannot run, and why: a run records it as skipped and goes on."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest to `name`, or None where nothing resembles it."""
    spelled = {each.lower(): each for each in known}
    matches = difflib.get_close_matches(name.lower(), spelled, n=1, cutoff=0.5)
    return spelled[matches[0]] if matches else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to write in place of `name`, as the end of a message: the nearest known name, or all of them."""
    names = sorted(known)
    close = nearest(name, names)
    return f"did you mean '{close}'?" if close else f"known: {', '.join(names) or 'none'}"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> SkylineError:
    """The error for a name that is not known: suggests the nearest one, or lists all of them."""
    return SkylineError(f"unknown {kind} '{name}'; {suggestion(name, known)}")
