"""What artifacts cost and score, worked out in a process of its own while other checks run here."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from harness.common.errors import SkylineError
from harness.common.processes import IsolationError, run_isolated
from harness.compression.evaluation import evaluate_quality
from harness.conformance.tiny import tiny_task
from harness.models.artifacts import load_artifact
from harness.profiling.inputs import Inputs
from harness.profiling.profile import StaticCosts, static_costs
from harness.records.schema import Quality, Workload


@dataclass(frozen=True)
class Figures:
    """Of one artifact: its costs at a workload, and its score on the tiny task."""

    costs: StaticCosts
    quality: Quality


class Beside:
    """A process that imports what scoring needs (`evaluate` takes seconds), waits to be told of artifacts, and works
    out their figures. Both it and this process have one thread meanwhile: more would wait for each other's.
    """

    def __init__(self) -> None:
        self._reader, self._writer = multiprocessing.get_context("forkserver").Pipe(duplex=False)
        self._thread = ThreadPoolExecutor(1)
        self._figures = self._thread.submit(run_isolated, figures_when_told, self._reader)
        self._told = False
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def tell(self, folders: list[Path], workload: Workload) -> None:
        """Let it work out the figures of the artifacts in these folders; told once."""
        self._told = True
        self._writer.send((folders, workload))

    def figures(self) -> list[Figures] | None:
        """The artifacts' figures, when they are there. None where it was not told of any or failed: then it is tried
        again here, where an error tells more.
        """
        if not self._told:
            return None
        try:
            return self._figures.result()
        except (IsolationError, SkylineError):
            return None

    def close(self) -> None:
        """End the process, which finishes what it was told."""
        self._writer.close()
        self._thread.shutdown()
        self._reader.close()
        torch.set_num_threads(self._threads)


def figures_when_told(reader: Connection) -> list[Figures]:
    """Runs in the process of its own."""
    torch.set_num_threads(1)
    with suppress(EOFError):
        folders, workload = reader.recv()
        return [Figures(costs_of(folder, workload), quality_of(folder)) for folder in folders]
    return []


def costs_of(folder: Path, workload: Workload) -> StaticCosts:
    """FLOPs, parameters and bytes of an artifact, without timing. Raises SkylineError where it does not load."""
    return static_costs(folder, Inputs.of(workload))


def quality_of(folder: Path) -> Quality:
    """An artifact's score on the tiny task. Raises SkylineError where it does not load."""
    return evaluate_quality(load_artifact(folder), tiny_task())
