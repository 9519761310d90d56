"""What pydantic finds wrong with values that a user wrote, in plain words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.common.errors import nearest, suggestion

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

_WORDS = (
    (r"^Value error, ", ""),
    (r"^\w+ should ", "must "),  # its subject is pydantic's word for the type: Input, Tuple, String
    (r", (unable to|got a) .*", ""),
    (r" after validation", ""),
    (r"\ba valid integer\b", "a whole number"),
    (r"\ba valid boolean\b", "true or false"),
    (r"\ba valid ", "a "),
)


@dataclass(frozen=True)
class Fault:
    """One value that is wrong. `key` is its dotted place, "" where the values do not fit each other."""

    key: str
    value: Any
    detail: str
    named: bool = True
    """Whether there is such a key, with a value: not for an unknown or a missing one."""

    def within(self, place: str) -> Fault:
        """The same fault in a table that stands at `place` of a larger one."""
        return replace(self, key=f"{place}.{self.key}" if self.key else place)

    @property
    def line(self) -> str:
        """Key, value and detail in one line."""
        if not self.named:
            return f"key '{self.key}' {self.detail}"
        if not self.key:
            return self.detail
        return self.of(
            f"{self.key} = {self.value!r}" if isinstance(self.value, str | int | float) else self.key
        )

    def of(self, subject: str) -> str:
        """What is wrong with the value, which the line calls `subject`."""
        return f"{subject} {self.detail}" if self.detail.startswith("must ") else f"{subject}: {self.detail}"


def first_fault(
    error: ValidationError, known: Iterable[str] = (), tables: Mapping[str, Iterable[str]] | None = None
) -> Fault:
    """The first thing that is wrong, unknown keys before all: a mistyped key also leaves one missing.

    `known` are the names among which the nearest to an unknown key is looked for; `tables` those of inner tables,
    by their own names.
    """
    found = error.errors(include_url=False)
    first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        around = [part for part in first["loc"][:-1] if isinstance(part, str)]
        names = (tables or {}).get(around[-1], known) if around else known
        hint = suggestion(str(first["loc"][-1]), names)
        return Fault(key, first["input"], f"is unknown; {hint}", named=False)
    if first["type"] == "missing":
        return Fault(key, None, "is missing", named=False)
    return Fault(key, first["input"] if key else None, _detail(first))


def plain(message: str) -> str:
    """One of pydantic's messages without its own words for types and parsing."""
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
