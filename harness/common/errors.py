"""Errors that a user can cause and fix. The command prints each as one line and exits with status 2.

An error has a stable code and a message. The message is prose and may be improved; tests and programs ask for the code.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import StrEnum


class Code(StrEnum):
    """Kind of mistake."""

    UNKNOWN_NAME = "unknown-name"
    """No method, option, task, runtime, column, … has this name."""
    OUT_OF_RANGE = "out-of-range"
    """A value is not allowed."""
    INCOMPLETE = "incomplete"
    """A required value is missing."""
    DUPLICATE = "duplicate"
    """A value was given twice, or a name is already taken."""
    CONFLICT = "conflict"
    """Two values exclude each other."""
    WRONG_ORDER = "wrong-order"
    """A method cannot follow the method before it."""
    WRONG_SHAPE = "wrong-shape"
    """A method or runtime cannot work on a model of this shape."""
    TOO_LONG = "too-long"
    """Sequences are longer than the model's positions."""
    NOT_FOUND = "not-found"
    """A file or folder does not exist."""
    UNREADABLE = "unreadable"
    """A file cannot be opened or parsed."""
    DAMAGED = "damaged"
    """The content of a file is cut off, or it contradicts itself."""
    WRONG_KIND = "wrong-kind"
    """A file or value is whole, but of the wrong kind."""
    WRONG_VERSION = "wrong-version"
    """A file was written by a version of Skyline that this version cannot read."""
    CHANGED = "changed"
    """A file changed after the work began."""
    EXISTS = "exists"
    """A file or folder would be overwritten."""
    NOT_WRITABLE = "not-writable"
    """A folder or cache cannot be written."""
    IN_USE = "in-use"
    """Another process holds the file or folder."""
    NOT_INSTALLED = "not-installed"
    """A package or extra is missing."""
    NO_DEVICE = "no-device"
    """The machine has no such device."""
    NO_DATA = "no-data"
    """There are no examples or records to work with."""
    NOT_FINITE = "not-finite"
    """A loss, weight or logit is NaN or infinite."""
    UNSUPPORTED = "unsupported"
    """A runtime cannot run this."""
    NOT_COMPARABLE = "not-comparable"
    """Two results must not be compared on one board or in one ratio."""
    INVALID = "invalid"
    """Any other mistake."""


class SkylineError(Exception):
    """A mistake that the user can fix. The message says in one line what is wrong and what to do."""

    default = Code.INVALID
    """Code of an error that is raised without one."""

    def __init__(self, message: str, code: Code | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self.code)


class NotComparable(SkylineError):
    """Two results must not be compared on one board or in one ratio."""

    default = Code.NOT_COMPARABLE


class Unsupported(SkylineError):
    """A runtime cannot run this cell. A run records the reason, skips the cell and goes on."""

    default = Code.UNSUPPORTED


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to `name`, or None if none is similar."""
    spelled = {each.lower(): each for each in known}
    matches = difflib.get_close_matches(name.lower(), spelled, n=1, cutoff=0.5)
    return spelled[matches[0]] if matches else None


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the nearest known name, or else all of them."""
    names = sorted(known)
    close = nearest(name, names)
    return f"did you mean '{close}'?" if close else f"known: {', '.join(names) or 'none'}"


def unknown_name(kind: str, name: str, known: Iterable[str]) -> SkylineError:
    """Make the error for an unknown name. It suggests the nearest known name or lists all of them."""
    return SkylineError(f"unknown {kind} '{name}'; {suggestion(name, known)}", Code.UNKNOWN_NAME)
