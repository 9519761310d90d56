"""Costs that many cells share are measured once: a baseline's for all candidates, an artifact's for all runtimes."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from harness.common.files import write_atomically
from harness.common.hardware import hardware, versions
from harness.common.hashing import digest
from harness.common.processes import run_isolated
from harness.models.artifacts import artifact_hash, read_config
from harness.profiling.inputs import Inputs
from harness.records.versions import PROFILING_VERSION
from harness.runtimes import Execution, get_runtime

T = TypeVar("T")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables that set the number of threads, each of which takes memory."""
PREPARED = 4
"""Prepared artifacts that stay on disk: a baseline's, and those of a candidate's workloads."""


class KeptCosts:
    """A cache of costs, and of the files that runtimes prepare from artifacts.

    Costs stay on disk as FOLDER/costs/<hash>.json, under a hash of all that they depend on; a damaged file is measured
    again. Prepared files, as large as the artifacts, stand in FOLDER/prepared/.<name>/ until `close`.
    """

    def __init__(self, folder: Path) -> None:
        self._costs = folder / "costs"
        self._prepared = folder / "prepared"
        self._recent: list[Path] = []

    def __enter__(self) -> KeptCosts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the prepared files."""
        if "_temporary" in self.__dict__:
            shutil.rmtree(self._temporary, ignore_errors=True)
            del self._temporary

    @cached_property
    def _temporary(self) -> Path:
        self._prepared.mkdir(parents=True, exist_ok=True)
        # The next run removes folders with a dot that a killed run left.
        return Path(tempfile.mkdtemp(dir=self._prepared, prefix="."))

    def once(self, kind: type[T], depends_on: dict[str, Any], measure: Callable[[], T]) -> T:
        """Return the cost of that kind that is kept for `depends_on`; if there is none, measure and keep it."""
        found = self.recall(kind, depends_on)
        return self.keep(measure(), depends_on) if found is None else found

    def recall(self, kind: type[T], depends_on: dict[str, Any]) -> T | None:
        """Return the cost of that kind that is kept for `depends_on`, or None."""
        try:
            text = self._path(kind, depends_on).read_bytes()
            return TypeAdapter(kind).validate_json(text)
        except (OSError, ValidationError):
            return None

    def keep(self, cost: T, depends_on: dict[str, Any]) -> T:
        """Keep a cost (a dataclass or pydantic model) for `depends_on`, and return it."""
        text = TypeAdapter(type(cost)).dump_json(cost).decode()
        write_atomically(self._path(type(cost), depends_on), text)
        return cost

    def _path(self, kind: type[Any], depends_on: dict[str, Any]) -> Path:
        key = digest({"kind": kind.__name__, "profiling": PROFILING_VERSION, **depends_on})
        return self._costs / f"{key[:20]}.json"

    def prepared(self, execution: Execution, length: int) -> Execution:
        """Return the execution with prepared files (see `prepared`).

        The files of the last few executions are kept, so that an artifact's workloads share them.
        """
        key = digest({**execution_key(execution), "folder": str(execution.folder), "length": length})[:20]
        into = self._temporary / key
        found = prepared(execution, length, into)
        self._recent = [*(folder for folder in self._recent if folder != into), into]
        for old in self._recent[:-PREPARED]:
            shutil.rmtree(old, ignore_errors=True)
        self._recent = self._recent[-PREPARED:]
        return found


def prepared(execution: Execution, length: int, into: Path) -> Execution:
    """Return the execution with the files that its runtime prepares, for rows of up to `length` tokens.

    A child process writes them into the folder `into`, unless it exists; a failed one leaves no folder.
    """
    if not get_runtime(execution.runtime).prepares:
        return execution
    if not into.is_dir():
        unfinished = into.with_name(f"{into.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        run_isolated(_prepare, execution, length, unfinished)
        unfinished.rename(into)
    return replace(execution, prepared=into)


def _prepare(execution: Execution, length: int, into: Path) -> None:
    """Runs in the child."""
    get_runtime(execution.runtime).prepare(execution.folder, execution.precision, length, into)


def contents(folder: Path) -> dict[str, str]:
    """Return the digests of an artifact's files, as its configuration states them.

    The builder has checked the files against them. Weights are read only if an old artifact states no digests.
    """
    return read_config(folder).digests or {"artifact": artifact_hash(folder)}


def execution_key(execution: Execution) -> dict[str, Any]:
    """Return how an artifact is executed, and the versions of the packages that execute it."""
    return {
        "runtime": execution.runtime,
        "precision": execution.precision,
        "device": execution.device,
        "versions": versions() | get_runtime(execution.runtime).versions(),
    }


def machine_key(device: str) -> dict[str, Any]:
    """Return the machine, and the number of threads that the environment allows."""
    return {"hardware": hardware(device).id, "threads": {name: os.environ.get(name) for name in THREADS}}


def inputs_key(inputs: Inputs) -> dict[str, Any]:
    """Return a workload, and hashes of its real rows: of those that run, and of the split, unless it is left out."""
    rows, split = (
        None if each is None else hashlib.sha256(each.tobytes()).hexdigest()
        for each in (inputs.rows, inputs.split)
    )
    workload = inputs.workload.model_dump(mode="json")
    return {"workload": workload, "rows": rows, "split": split, "seed": inputs.seed}
