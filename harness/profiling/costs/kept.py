"""Costs that are the same for many cells, measured once: those of a baseline beside every candidate, those of an
artifact under every runtime.
"""

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
from harness.profiling.costs.memory import narrow_execution
from harness.profiling.inputs import Inputs
from harness.records.versions import PROFILING_VERSION
from harness.runtimes import Execution, get_runtime

T = TypeVar("T")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""What the environment says of threads: each has memory of its own."""


class KeptCosts:
    """Costs on disk, as JSON, under a hash of all that they depend on; and for as long as it is open, what runtimes
    need beside an artifact (a graph is as large as the artifact, so that none outlives the run).

    FOLDER/costs/<hash>.json, FOLDER/prepared/.<name>/. What is damaged is measured again.
    """

    def __init__(self, folder: Path) -> None:
        self._costs = folder / "costs"
        self._prepared = folder / "prepared"

    def __enter__(self) -> KeptCosts:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove what was prepared."""
        if "_open" in self.__dict__:
            shutil.rmtree(self._open, ignore_errors=True)
            del self._open

    @cached_property
    def _open(self) -> Path:
        self._prepared.mkdir(parents=True, exist_ok=True)
        # With a dot: a killed run's is swept away by the next one.
        return Path(tempfile.mkdtemp(dir=self._prepared, prefix="."))

    def once(self, kind: type[T], depends_on: dict[str, Any], measure: Callable[[], T]) -> T:
        """The cost of that kind that is kept for `depends_on`, or `measure`'s result, which is kept."""
        found = self.recall(kind, depends_on)
        return self.keep(measure(), depends_on) if found is None else found

    def recall(self, kind: type[T], depends_on: dict[str, Any]) -> T | None:
        """The cost that is kept, or None."""
        try:
            text = self._path(kind, depends_on).read_bytes()
            return TypeAdapter(kind).validate_json(text)
        except (OSError, ValidationError):
            return None

    def keep(self, cost: T, depends_on: dict[str, Any]) -> T:
        """Keep a cost (a dataclass or a model of pydantic's) for `depends_on`, and return it."""
        text = TypeAdapter(type(cost)).dump_json(cost).decode()
        write_atomically(self._path(type(cost), depends_on), text)
        return cost

    def _path(self, kind: type[Any], depends_on: dict[str, Any]) -> Path:
        key = digest({"kind": kind.__name__, "profiling": PROFILING_VERSION, **depends_on})
        return self._costs / f"{key[:20]}.json"

    def prepared(self, execution: Execution, length: int) -> Execution:
        """The execution with what its runtime needs beside the artifact, for rows of up to `length` tokens."""
        key = digest({**how(execution), "folder": str(execution.folder), "length": length})[:20]
        return prepared(execution, length, self._open / key)

    def narrow(self, execution: Execution) -> Execution | None:
        """What `measure_memory` runs first where a runtime prepares artifacts: prepared as `execution` is."""
        if execution.prepared is None:
            return None
        key = digest({"narrow": True, **how(execution)})[:20]
        into = self._open / key
        if not into.is_dir():
            unfinished = self._open / f"{key}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            run_isolated(narrow_execution, execution, unfinished)
            unfinished.rename(into)
        return replace(execution, folder=into / "artifact", prepared=into / "prepared")


def prepared(execution: Execution, length: int, into: Path) -> Execution:
    """The execution with what its runtime needs beside the artifact, for rows of up to `length` tokens: made in a
    process of its own unless the folder is there, all of it or nothing.
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
    """What an artifact holds, told by the digests in its own configuration: no weights are read, unless it was made
    before there were any. Whoever built the artifact has held its files against them.
    """
    return read_config(folder).digests or {"artifact": artifact_hash(folder)}


def how(execution: Execution) -> dict[str, Any]:
    """How something is executed, and by which versions of what."""
    return {
        "runtime": execution.runtime,
        "precision": execution.precision,
        "device": execution.device,
        "versions": versions() | get_runtime(execution.runtime).versions(),
    }


def where(device: str) -> dict[str, Any]:
    """The machine, as far as a process of it may use it."""
    return {"hardware": hardware(device).id, "threads": {name: os.environ.get(name) for name in THREADS}}


def what(inputs: Inputs) -> dict[str, Any]:
    """A workload with its inputs."""
    rows = None if inputs.rows is None else hashlib.sha256(inputs.rows.tobytes()).hexdigest()
    return {"workload": inputs.workload.model_dump(mode="json"), "rows": rows, "seed": inputs.seed}
