"""A cell that is ready to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.records.cells import Cell

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Job:
    """A cell to run, the fingerprint that its record will carry, and why its runtime cannot run it, if so."""

    cell: Cell
    fingerprint: str
    unsupported: str | None = None
