"""Turn pydantic's errors about a user's values into one plain line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.common.errors import Code, nearest, suggestion

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_WORDS = (
    (r"^Value error, ", ""),
    (r"^\w+ should ", "must "),  # drops pydantic's word for the type: Input, Tuple, String
    (r", (unable to|got a) .*", ""),
    (r" after validation", ""),
    (r"\ba valid integer\b", "a whole number"),
    (r"\ba valid tuple\b", "a list"),
    (r"\ba valid dictionary or instance of \w+", "a table"),
    (r"\ba valid boolean\b", "true or false"),
    (r"\ba valid ", "a "),
)


@dataclass(frozen=True)
class Fault:
    """One wrong value. `key` is its dotted path, or "" if several values contradict each other."""

    key: str
    value: Any
    detail: str
    code: Code
    """Code for the SkylineError that reports the fault."""

    def within(self, place: str) -> Fault:
        """Return the same fault for a table that is nested at the path `place` of another table."""
        return replace(self, key=f"{place}.{self.key}" if self.key else place)

    @property
    def line(self) -> str:
        """Key, value and detail in one line."""
        if self.code in (Code.UNKNOWN_NAME, Code.INCOMPLETE):
            return f"key '{self.key}' {self.detail}"
        if not self.key:
            return self.detail
        return self.of(
            f"{self.key} = {self.value!r}" if isinstance(self.value, str | int | float) else self.key
        )

    def of(self, subject: str) -> str:
        """Return the line with `subject` in place of key and value."""
        return f"{subject} {self.detail}" if self.detail.startswith("must ") else f"{subject}: {self.detail}"


def first_fault(
    error: ValidationError, known: Iterable[str] = (), tables: Mapping[str, Iterable[str]] | None = None
) -> Fault:
    """Return the first fault. Unknown keys come before others, for a mistyped key also leaves its right name missing.

    For an unknown key, the nearest name in `known` is suggested; inside a nested table, the nearest name in the entry
    of `tables` for that table.
    """
    found = error.errors(include_url=False)
    first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        around = [part for part in first["loc"][:-1] if isinstance(part, str)]
        names = (tables or {}).get(around[-1], known) if around else known
        hint = suggestion(str(first["loc"][-1]), names)
        return Fault(key, first["input"], f"is unknown; {hint}", Code.UNKNOWN_NAME)
    if first["type"] == "missing":
        return Fault(key, None, "is missing", Code.INCOMPLETE)
    if not key:
        return Fault(key, None, _detail(first), Code.CONFLICT)
    return Fault(key, first["input"], _detail(first), Code.OUT_OF_RANGE)


def plain(message: str) -> str:
    """Replace pydantic's own words for types and parsing in one of its messages."""
    for pattern, words in _WORDS:
        message = re.sub(pattern, words, message)
    return message


def _detail(first: ErrorDetails) -> str:
    text = plain(first["msg"])
    if first["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", text)
        close = nearest(str(first["input"]), choices)
        text = text.replace("'", "") + (f"; did you mean '{close}'?" if close else "")
    return text
