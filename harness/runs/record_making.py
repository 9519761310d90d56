"""Make the record of a cell, with the provenance of this process."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from harness.common.hardware import Hardware, versions
from harness.recipes.fingerprints import declared_versions
from harness.recipes.recipe import Recipe
from harness.records.cells import Cell, QualityCell
from harness.records.schema import Provenance, Record, Spent, Status
from harness.records.versions import EVALUATION_VERSION, PROFILING_VERSION
from harness.version import __version__


def make_record(
    cell: Cell,
    recipe: Recipe,
    stamp: str,
    machine: Hardware,
    started: float,
    status: Status = "ok",
    reason: str = "",
    *,
    data: str | None = None,
    weights: str = "",
    spent: Spent | None = None,
    **measured: Any,
) -> Record:
    """Make the record of a cell.

    `recipe` is the cell's parsed recipe, `stamp` the record's fingerprint, `machine` the hardware under which it is
    stored, `started` the Unix time in seconds at which the cell began. `data`, `weights` and `spent` are fields of its
    `Provenance`, and `measured` holds fields of `Record`.
    """
    scored = isinstance(cell, QualityCell)
    measured_by = {"evaluation": EVALUATION_VERSION} if scored else {"profiling": PROFILING_VERSION}
    return Record(
        kind="quality" if scored else "profile",
        key=cell.key,
        status=status,
        reason=reason,
        recipe=cell.recipe,
        model=cell.model,
        task=cell.task,
        seed=cell.seed,
        cell=cell.identity(),
        provenance=Provenance(
            fingerprint=stamp,
            declared=declared_versions(recipe) | measured_by,
            skyline=__version__,
            versions=versions(),
            hardware=machine,
            started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
            seconds=round(time.time() - started, 3),
            weights=weights,
            data=data,
            spent=spent,
        ),
        **measured,
    )
