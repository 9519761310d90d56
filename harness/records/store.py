"""The store: one folder with records by hardware, artifacts and caches. One run at a time writes to it.

OUT/measured/<hardware>/<cell>.json     records
OUT/work/artifacts, teacher, untrained  what can be made again
"""

from __future__ import annotations

import fcntl
import glob
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.common.errors import SkylineError
from harness.common.files import write_atomically
from harness.common.hardware import hardware
from harness.records.cells import Cell, QualityCell
from harness.records.schema import Record, read_record


class Store:
    """Records, and the workspace in which artifacts are made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.measured = folder / "measured"
        self.workspace = folder / "work"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for this run. Raises SkylineError where another run holds it.

        The kernel drops the lock with the process, so a killed run leaves none behind.
        """
        try:
            self.workspace.mkdir(parents=True, exist_ok=True)
            file = (self.workspace / ".lock").open("w")
        except OSError as error:
            raise SkylineError(
                f"cannot write to {self.folder} ({error.strerror}); choose another --out"
            ) from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise SkylineError(
                    f"another run is writing to {self.folder}; wait for it or choose another --out"
                ) from None
            self._sweep()
            yield

    def _sweep(self) -> None:
        # What a killed run left half-written starts with a dot, in whichever folder it was.
        for folder in (
            *self.measured.glob("*/"),
            *(entry for entry in self.workspace.iterdir() if entry.is_dir()),
        ):
            for leftover in folder.glob(".*"):
                shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    def path(self, cell: Cell, machine: str | None = None) -> Path:
        """Where the cell's record of a machine stands, by default of this one. `machine` is a hardware id."""
        return self.measured / (machine or hardware(cell.measured_on).id) / f"{cell.slug}.json"

    def find(self, cell: Cell, machine: str | None = None) -> Record | None:
        """The cell's record, or None where there is none yet or it cannot be read any more (then it is made
        again).

        A score is found under any machine's folder, `machine`'s first: what a cell trains and scores does not depend
        on the machine but for rounding, and the record tells where it was.
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
        """Write the cell's record in place of an older one."""
        write_atomically(self.path(cell, record.provenance.hardware.id), record.to_json())


def _readable(path: Path) -> Record | None:
    try:
        return read_record(path) if path.is_file() else None
    except SkylineError:
        return None


def read_records(profiles: Path) -> tuple[list[Record], list[str]]:
    """All records under `profiles`/measured, and a line for each file that is none."""
    records, problems = [], []
    for path in sorted((profiles / "measured").glob("*/*.json")):
        try:
            records.append(read_record(path))
        except SkylineError as error:
            problems.append(str(error))
    return records, problems
