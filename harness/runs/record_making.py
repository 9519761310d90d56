"""Records of cells, with the provenance of this process."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from harness.common.hardware import Hardware, versions
from harness.records.cells import Cell, QualityCell
from harness.records.schema import Provenance, Record, Status
from harness.version import __version__


def make_record(
    cell: Cell,
    stamp: str,
    machine: Hardware,
    started: float,
    status: Status = "ok",
    reason: str = "",
    **measured: Any,
) -> Record:
    """The record of a cell with its fingerprint `stamp`, of a machine. `started` is the wall clock's reading at the
    start, in seconds.
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
