"""The store: one folder with records by hardware, artifacts and caches. One run at a time writes to it.

OUT/measured/<hardware>/<cell>.json     records
OUT/work/artifacts, teacher, untrained  files that a run can make again
"""

from __future__ import annotations

import fcntl
import glob
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.common.errors import Code, SkylineError
from harness.common.files import write_atomically
from harness.common.hardware import hardware
from harness.records.cells import Cell, QualityCell
from harness.records.schema import Record, read_record


class Store:
    """The records in `measured`, and the workspace for artifacts and caches."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.measured = folder / "measured"
        self.workspace = folder / "work"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder for this run, and delete what a killed run left half-written.

        The kernel drops the lock when the process ends, even by a kill. Raises SkylineError: `in-use` if another run
        holds the lock, `not-writable` if the folder cannot be written.
        """
        try:
            self.workspace.mkdir(parents=True, exist_ok=True)
            file = (self.workspace / ".lock").open("w")
        except OSError as error:
            raise SkylineError(
                f"cannot write to {self.folder} ({error.strerror}); choose another --out", Code.NOT_WRITABLE
            ) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise SkylineError(
                    f"another run is writing to {self.folder}; wait for it or choose another --out",
                    Code.IN_USE,
                ) from None
            self._sweep()
            yield

    def _sweep(self) -> None:
        # The names of half-written files and folders begin with a dot.
        for folder in (
            *self.measured.glob("*/"),
            *(entry for entry in self.workspace.iterdir() if entry.is_dir()),
        ):
            for leftover in folder.glob(".*"):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    def path(self, cell: Cell, machine: str | None = None) -> Path:
        """Return the path of the cell's record of a machine. `machine` is a hardware id; default: this machine's."""
        return self.measured / (machine or hardware(cell.measured_on).id) / f"{cell.slug}.json"

    def find(self, cell: Cell, machine: str | None = None) -> Record | None:
        """Return the cell's record, or None if there is none or it cannot be read (a run then makes it again).

        A score may come from any machine; `machine` is tried first. Except for rounding, training and scores do not
        depend on the machine, and the record names it.
        """
        own = self.path(cell, machine)
        found = _readable(own)
        if found is not None or not isinstance(cell, QualityCell):
            return found
        elsewhere = [
            _readable(path) for path in self.measured.glob(f"*/{glob.escape(own.name)}") if path != own
        ]
        known = [record for record in elsewhere if record is not None and record.key == cell.key]
        return max(known, key=lambda record: record.provenance.started, default=None)

    def put(self, cell: Cell, record: Record) -> None:
        """Write the cell's record, replacing an older one."""
        write_atomically(self.path(cell, record.provenance.hardware.id), record.to_json())


def _readable(path: Path) -> Record | None:
    try:
        return read_record(path) if path.is_file() else None
    except SkylineError:
        return None


def read_records(profiles: Path) -> tuple[list[Record], list[str]]:
    """Return all records in `profiles`/measured, and an error line for each file that is not a valid record."""
    records, problems = [], []
    for path in sorted((profiles / "measured").glob("*/*.json")):
        try:
            records.append(read_record(path))
        except SkylineError as error:
            problems.append(str(error))
    return records, problems
