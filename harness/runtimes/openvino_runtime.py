"""OpenVINO on the processor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.models.int8_linear import Int8Linear
from harness.records.schema import Precision
from harness.runtimes.graphs import GraphRuntime, Session
from harness.runtimes.onnx_export import Graph
from harness.runtimes.onnx_modules import OPSET

GROUP = 32
"""Inputs are quantized in groups of a multiple of so many."""
HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
"""What is computed in beside the int8 maps. Without a hint it would be bfloat16 wherever the processor has it."""


class OpenvinoRuntime(GraphRuntime):
    """Executes graphs with OpenVINO's plugin for processors, one pass at a time."""

    name = "openvino"
    extra = "openvino"
    packages = ("openvino", "onnx", "onnxscript")

    def int8_map(self, kernel: Int8Linear) -> nn.Module:
        """See `GraphRuntime.int8_map`."""
        return CompressedMap(kernel)

    def session(self, graph: Graph, precision: Precision) -> Session:
        """See `GraphRuntime.session`."""
        import openvino

        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": HINTS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            # As many threads as it was told to, and where the system puts them, as of every other runtime.
            "ENABLE_HYPER_THREADING": True,
            "ENABLE_CPU_PINNING": False,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": group_of(graph.widths),
        }
        request = openvino.Core().compile_model(graph.path, "CPU", settings).create_infer_request()

        def run(inputs: dict[str, NDArray[Any]]) -> NDArray[Any]:
            found: NDArray[Any] = request.infer(inputs, share_inputs=True)[0]
            return found

        return run


def group_of(widths: Sequence[int]) -> int:
    """How many inputs of a map have one scale: as many as the narrowest map has, since narrower maps than a group are
    executed in float32. Those with less than 32 inputs are in any case.
    """
    return min((width for width in widths if width >= GROUP), default=0) // GROUP * GROUP


class CompressedMap(nn.Module):
    """`Int8Linear` as OpenVINO recognises it: a float32 map of weights that are decompressed from int8. It multiplies
    int8 weights by inputs that it quantizes as they come, symmetrically and each group of a token's for itself.

    Where the groups are as wide as the map these are `Int8Linear`'s own numbers; smaller ones lose less.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, kernel: Int8Linear) -> None:
        super().__init__()
        scale = kernel.scale.expand(kernel.out_features).contiguous()
        self.register_buffer("weight", kernel.weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", kernel.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in) to (…, out)."""
        weight = torch.onnx.ops.symbolic(
            "DequantizeLinear",
            (self.weight, self.scale),
            {"axis": 0},
            dtype=torch.float32,
            shape=self.weight.shape,
            version=OPSET,
        )
        return F.linear(x, weight, self.bias)
