"""Errors that a user can cause and mend. The command prints each as one line and exits with status 2.

An error has a code, which is stable, and a message, which is prose and may be improved. Tests and programs ask for the
code.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import StrEnum


class Code(StrEnum):
    """What kind of mistake an error is."""

    UNKNOWN_NAME = "unknown-name"
    """A method, option, task, runtime, … of that name does not exist."""
    OUT_OF_RANGE = "out-of-range"
    """A value is not among those that are allowed."""
    INCOMPLETE = "incomplete"
    """Something that is needed was not given."""
    DUPLICATE = "duplicate"
    """Something was given twice, or a name is taken."""
    CONFLICT = "conflict"
    """Two things that were given exclude each other."""
    WRONG_ORDER = "wrong-order"
    """A method cannot follow the one before it."""
    WRONG_SHAPE = "wrong-shape"
    """A method or runtime cannot work on a model of this shape."""
    TOO_LONG = "too-long"
    """Sequences are longer than the model's positions."""
    NOT_FOUND = "not-found"
    """A file or folder is not there."""
    UNREADABLE = "unreadable"
    """A file cannot be opened or parsed."""
    DAMAGED = "damaged"
    """A file was readable once: its content is torn or contradicts itself."""
    WRONG_KIND = "wrong-kind"
    """A file or value is whole, but of another kind than the one asked for."""
    WRONG_VERSION = "wrong-version"
    """A file was written by another version, which this one does not read."""
    CHANGED = "changed"
    """A file is no longer what it was when the work began."""
    EXISTS = "exists"
    """Something would be overwritten."""
    NOT_WRITABLE = "not-writable"
    """A folder or cache cannot be written."""
    IN_USE = "in-use"
    """Another process holds it."""
    NOT_INSTALLED = "not-installed"
    """A package or extra is missing."""
    NO_DEVICE = "no-device"
    """The machine has no such device."""
    NO_DATA = "no-data"
    """There are no examples or records to work on."""
    NOT_FINITE = "not-finite"
    """A loss, weight or logit is NaN or infinite."""
    UNSUPPORTED = "unsupported"
    """A runtime cannot run this."""
    NOT_COMPARABLE = "not-comparable"
    """Two things must not stand on one board, or in one ratio."""
    INVALID = "invalid"
    """Any other mistake."""


class SkylineError(Exception):
    """A user's mistake. The message is one line that says what is wrong and what to do."""

    default = Code.INVALID

    def __init__(self, message: str, code: Code | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.code)


class NotComparable(SkylineError):
    """Two things that must not stand on one board, or in one ratio."""

    default = Code.NOT_COMPARABLE


class Unsupported(SkylineError):
    """What a runtime cannot run, and why: a run records it as skipped and goes on."""

    default = Code.UNSUPPORTED


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
    return SkylineError(f"unknown {kind} '{name}'; {suggestion(name, known)}", Code.UNKNOWN_NAME)
