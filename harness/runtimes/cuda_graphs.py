"""CUDA graphs: the pass of each shape is recorded once, then launched as a whole without Python or PyTorch.

At batch 1 the processor launches kernels more slowly than the device runs them; a graph removes that delay. The
recording follows "CUDA semantics: CUDA Graphs" in PyTorch's documentation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.common.errors import Unsupported
from harness.common.hardware import check_device
from harness.models.artifacts import load_artifact
from harness.models.batch import Batch
from harness.records.schema import Precision
from harness.runtimes import refused_exits
from harness.runtimes.base import Executable, Runtime
from harness.runtimes.precision import in_precision

WARM_UP = 3
"""Passes on a side stream before the recorded one: libraries choose kernels and allocate memory in the first ones."""

Record = Callable[[Callable[[], Tensor]], tuple[Callable[[], object], Tensor]]
"""Records the kernels that a function launches; returns a function that launches them again, and the tensor that they
write the result to.
"""


class CudaGraphsRuntime(Runtime):
    """Records the pass of the loaded encoder, one graph for each shape.

    A graph launches the same kernels on the same memory each time, so nothing in a pass may depend on values: rows
    cannot exit early, and a pass that reads a number from the device cannot be recorded.
    """

    name = "cuda-graphs"
    devices = ("cuda",)
    compiles = True

    def load(
        self, folder: Path, device: str, precision: Precision = "float32", prepared: Path | None = None
    ) -> Executable:
        """See `Runtime.load`. Raises Unsupported if rows would exit early.

        The first pass of a shape raises Unsupported if it cannot be recorded.
        """
        self.require(device)
        check_device(device)
        loaded = load_artifact(folder)
        if reason := refused_exits(self, loaded.config):
            raise Unsupported(reason)
        model = in_precision(loaded, precision).to(device).eval()

        def logits(batch: Batch) -> Tensor:
            found: Tensor = model(batch).logits
            return found

        return Executable(RecordedPasses(logits, CudaRecorder(device)))


@dataclass(frozen=True)
class _Recorded:
    """A recorded pass: the tensors that it reads, the function that launches it, and the tensor that it writes."""

    inputs: tuple[Tensor, ...]
    launch: Callable[[], object]
    output: Tensor


class RecordedPasses:
    """Runs batches by recorded passes; the first batch of each shape is recorded.

    It must not be used by several threads at once, because all batches of a shape share memory.
    """

    def __init__(self, run: Callable[[Batch], Tensor], record: Record) -> None:
        self._run, self._record = run, record
        self._recorded: dict[tuple[int, ...], _Recorded] = {}

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> Tensor:
        """Return a copy of the logits of a batch (b, n). Raises Unsupported if its pass cannot be recorded."""
        shape = tuple(batch.input_ids.shape)  # (b, n)
        recorded = self._recorded.get(shape)
        if recorded is None:
            recorded = self._recorded[shape] = self._first(batch)
        for kept, given in zip(recorded.inputs, _tensors(batch), strict=True):
            kept.copy_(given)
        recorded.launch()
        return recorded.output.clone()

    def _first(self, batch: Batch) -> _Recorded:
        inputs = tuple(tensor.clone() for tensor in _tensors(batch))
        try:
            launch, output = self._record(lambda: self._run(Batch(*inputs)))
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            first = (str(error).strip().splitlines() or ["no message"])[0]
            raise Unsupported(
                f"runtime 'cuda-graphs' cannot record a pass of this artifact ({first}); use eager or compile"
            ) from error
        return _Recorded(inputs, launch, output)


class CudaRecorder:
    """Records passes on a CUDA device.

    All graphs of one recorder share memory: only one runs at a time, and its result is copied before the next.
    """

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        self._pool: Any = None

    def __call__(self, run: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        """Record the kernels that `run` launches (see `Record`)."""
        with torch.cuda.device(self._device):
            side, current = torch.cuda.Stream(), torch.cuda.current_stream()  # type: ignore[no-untyped-call]
            side.wait_stream(current)
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    run()
            current.wait_stream(side)
            if self._pool is None:
                self._pool = torch.cuda.graph_pool_handle()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool):
                output = run()
        return graph.replay, output


def _tensors(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    return batch.input_ids, batch.attention_mask, batch.token_type_ids
