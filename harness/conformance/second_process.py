"""A second process that computes costs and scores of artifacts while other checks run in this process."""

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
    """An artifact's costs at a workload, and its score on the tiny task."""

    costs: StaticCosts
    quality: Quality


class SecondProcess:
    """A process that imports what scoring needs (`evaluate` takes seconds), waits for artifacts, and computes their
    figures. Until `close`, both processes use one thread each, so that they do not wait for each other's threads.
    """

    def __init__(self) -> None:
        self._reader, self._writer = multiprocessing.get_context("forkserver").Pipe(duplex=False)
        self._thread = ThreadPoolExecutor(1)
        self._figures = self._thread.submit(run_isolated, figures_when_told, self._reader)
        self._told = False
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def tell(self, folders: list[Path], workload: Workload) -> None:
        """Start the computation for the artifacts in these folders. Call it at most once."""
        self._told = True
        self._writer.send((folders, workload))

    def figures(self) -> list[Figures] | None:
        """Wait for the artifacts' figures and return them in order. Return None if there was no artifact or the process
        failed: the caller then computes them itself, where an error says more.
        """
        if not self._told:
            return None
        try:
            return self._figures.result()
        except (IsolationError, SkylineError):
            return None

    def close(self) -> None:
        """End the process after its present computation."""
        self._writer.close()
        self._thread.shutdown()
        self._reader.close()
        torch.set_num_threads(self._threads)


def figures_when_told(reader: Connection) -> list[Figures]:
    """Wait for the message of `tell`, and return the figures; an empty list if the pipe is closed before."""
    torch.set_num_threads(1)
    with suppress(EOFError):
        folders, workload = reader.recv()
        return [Figures(costs_of(folder, workload), quality_of(folder)) for folder in folders]
    return []


def costs_of(folder: Path, workload: Workload) -> StaticCosts:
    """Return an artifact's FLOPs, parameters and bytes, without timing. Raises SkylineError if it does not load."""
    return static_costs(folder, Inputs.of(workload))


def quality_of(folder: Path) -> Quality:
    """Return an artifact's scores on the tiny task. Raises SkylineError if it does not load."""
    return evaluate_quality(load_artifact(folder), tiny_task())
