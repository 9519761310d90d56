"""Records of cells, with the provenance of this process."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from harness.common.hardware import Hardware, versions
from harness.recipes.fingerprints import declared_versions
from harness.recipes.recipe import Recipe
from harness.records.cells import Cell, QualityCell
from harness.records.schema import Provenance, Record, Status
from harness.records.versions import EVALUATION_VERSION, PROFILING_VERSION
from harness.version import __version__


def result_versions(cell: Cell) -> dict[str, int]:
    """The version of what measured a cell."""
    if isinstance(cell, QualityCell):
        return {"evaluation": EVALUATION_VERSION}
    return {"profiling": PROFILING_VERSION}


def make_record(
    cell: Cell,
    recipe: Recipe,
    stamp: str,
    machine: Hardware,
    started: float,
    status: Status = "ok",
    reason: str = "",
    **measured: Any,
) -> Record:
    """Make the record of a cell from what was measured. `recipe` is the cell's, `stamp` its fingerprint, `machine` the
    one that it belongs to; `started` is the wall clock's reading at the start, in seconds.
    """
    data = measured.pop("data", None)
    weights = measured.pop("weights", "")
    spent = measured.pop("spent", None)
    return Record(
        kind="quality" if isinstance(cell, QualityCell) else "profile",
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
            declared=declared_versions(recipe) | result_versions(cell),
            skyline=__version__,
            versions=versions(),
            hardware=machine,
            weights=weights,
            data=data,
            started=datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds"),
            seconds=round(time.time() - started, 3),
            spent=spent,
        ),
        **measured,
    )
