"""The base of the runtimes that execute ONNX graphs."""

from __future__ import annotations

import tempfile
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.common.errors import Code, SkylineError
from harness.common.hardware import check_device
from harness.models.artifacts import load_artifact, read_config
from harness.models.batch import Batch
from harness.models.int8_linear import Int8Linear
from harness.records.schema import Precision
from harness.runtimes.base import Executable, Runtime
from harness.runtimes.onnx_export import INPUTS, Graph, export
from harness.runtimes.precision import in_precision

Session = Callable[[dict[str, NDArray[Any]]], NDArray[Any]]
"""Maps the inputs, by name, to the logits."""


class GraphRuntime(Runtime):
    """Executes ONNX graphs on the processor.

    A graph that is not valid for all lengths is exported for the longest one asked for, and shorter rows are padded to
    the shortest valid one, as in a deployment. Logits do not depend on padding.
    """

    devices = ("cpu",)
    prepares = True

    @abstractmethod
    def int8_map(self, kernel: Int8Linear) -> nn.Module:
        """Return the module that replaces an int8 map in the graph, with the kernel's weights and scales."""

    @abstractmethod
    def session(self, graph: Graph, precision: Precision) -> Session:
        """Return a function that runs a graph with as many threads as torch uses."""

    def prepare(self, folder: Path, precision: Precision, length: int, into: Path) -> None:
        """See `Runtime.prepare`. It exports the graph."""
        model = load_artifact(folder)
        # In bfloat16 the graph stays in float32, and the runtime rounds it.
        model = in_precision(model, "int8") if precision == "int8" else model
        export(model, length, self.int8_map, into)

    def load(
        self, folder: Path, device: str, precision: Precision = "float32", prepared: Path | None = None
    ) -> Executable:
        """See `Runtime.load`."""
        check_device(device)
        self.require(device)
        if prepared is not None:
            return self._executable(prepared, precision)
        with tempfile.TemporaryDirectory(prefix="skyline-") as temporary:
            into = Path(temporary)
            self.prepare(folder, precision, read_config(folder).model.positions, into)
            return self._executable(into, precision)

    def _executable(self, prepared: Path, precision: Precision) -> Executable:
        graph = Graph.read(prepared)
        session = self.session(graph, precision)
        return Executable(lambda batch: run_graph(graph, session, batch))


def run_graph(graph: Graph, session: Session, batch: Batch) -> Tensor:
    """Return the logits (b, outputs) or (b, n, 2) of a batch (b, n).

    Raises SkylineError (`TOO_LONG`) if n is more than the graph's longest rows have.
    """
    tokens = batch.input_ids.shape[1]
    if tokens > graph.longest:
        raise SkylineError(
            f"a sequence of {tokens} tokens is longer than the exported graph's {graph.longest}; export it again",
            Code.TOO_LONG,
        )
    missing = max(0, graph.shortest - tokens)
    tensors = (batch.input_ids, batch.attention_mask, batch.token_type_ids)
    padded = (F.pad(tensor, (0, missing)) if missing else tensor for tensor in tensors)  # (b, shortest)
    logits = torch.from_numpy(session({name: t.numpy() for name, t in zip(INPUTS, padded, strict=True)}))
    return logits[:, :tokens] if logits.dim() == 3 else logits
