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
"""The size of a group of inputs with one scale is a multiple of this."""
HINTS: dict[Precision, str] = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
"""The precision of all work but int8 maps. Without a hint OpenVINO uses bfloat16 if the processor has it."""


class OpenvinoRuntime(GraphRuntime):
    """Executes graphs with OpenVINO's CPU plugin, one pass at a time."""

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
            # Exactly the threads given, placed by the system, as under every other runtime.
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
    """Return how many inputs share a scale: as many as the narrowest map has, in multiples of 32; 0 without such maps.

    OpenVINO executes maps that are narrower than a group in float32. Maps with less than 32 inputs always are.
    """
    return min((width for width in widths if width >= GROUP), default=0) // GROUP * GROUP


class CompressedMap(nn.Module):
    """`Int8Linear` in the form that OpenVINO recognises: a float32 map whose weights are decompressed from int8.

    OpenVINO multiplies the int8 weights by inputs that it quantizes at run time, symmetrically, with one scale for each
    group of a token's inputs. If groups are as wide as the map, the numbers are `Int8Linear`'s; smaller ones lose less.
    """

    weight: Tensor  # (out, in)
    scale: Tensor  # (out,)
    bias: Tensor | None  # (out,)

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
