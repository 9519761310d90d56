"""ONNX Runtime on the processor."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from harness.common.hardware import multiplies_signed
from harness.models.codecs import INT8_MAX
from harness.models.int8_linear import Int8Linear
from harness.records.schema import Precision
from harness.runtimes.graphs import GraphRuntime, Session
from harness.runtimes.onnx_export import Graph
from harness.runtimes.onnx_modules import OPSET

ZERO_POINT = 128
"""The uint8 value that stands for 0 when int8 numbers are written as uint8."""


class OnnxRuntime(GraphRuntime):
    """Executes graphs with all of ONNX Runtime's optimizations."""

    name = "onnxruntime"
    extra = "onnx"
    packages = ("onnxruntime", "onnx", "onnxscript")

    def lacks(self, precision: Precision, device: str) -> str | None:
        """See `Runtime.lacks`."""
        if precision == "bfloat16":
            return "ONNX Runtime has no bfloat16 kernels for processors; use float32 or int8"
        return super().lacks(precision, device)

    def int8_map(self, kernel: Int8Linear) -> nn.Module:
        """See `GraphRuntime.int8_map`.

        On processors that cannot sum products of signed bytes exactly, ONNX Runtime multiplies unsigned bytes, so the
        weights are written as uint8.
        """
        return QuantizedMap(kernel, signed=multiplies_signed())

    def session(self, graph: Graph, precision: Precision) -> Session:
        """See `GraphRuntime.session`."""
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = torch.get_num_threads(), 1
        options.log_severity_level = 3
        # Threads that spin while they wait would slow the other side of a pair.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = ort.InferenceSession(graph.path, options, providers=["CPUExecutionProvider"])

        def run(inputs: dict[str, NDArray[Any]]) -> NDArray[Any]:
            found: NDArray[Any] = session.run(None, inputs)[0]
            return found

        return run


class QuantizedMap(nn.Module):
    """`Int8Linear` in ONNX's operators, with the same numbers.

    Inputs are written as uint8 with zero point 128, as ONNX Runtime's kernels need them, and one kernel multiplies the
    matrices and the weights' scales.
    """

    weight: Tensor  # (in, out)
    weight_zero: Tensor
    scale: Tensor  # (out,), or () for the whole matrix
    bias: Tensor | None  # (out,)
    one: Tensor
    zero: Tensor

    def __init__(self, kernel: Int8Linear, signed: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = kernel.in_features, kernel.out_features
        weight = kernel.weight.t().contiguous()
        if not signed:
            weight = (weight.to(torch.int16) + ZERO_POINT).to(torch.uint8)
        self.register_buffer("weight", weight)
        self.register_buffer("weight_zero", torch.tensor(0 if signed else ZERO_POINT, dtype=weight.dtype))
        self.register_buffer("scale", kernel.scale)
        self.register_buffer("bias", kernel.bias)
        self.register_buffer("one", torch.tensor(1.0))
        self.register_buffer("zero", torch.tensor(ZERO_POINT, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in) to (…, out)."""
        operator = torch.onnx.ops.symbolic
        tokens = x.reshape(-1, self.in_features)  # (t, in)
        scale = (tokens.abs().amax(dim=1) / INT8_MAX).clamp_min(torch.finfo(torch.float32).tiny)  # (t,)
        quantized = operator(
            "QuantizeLinear",
            (tokens, scale, torch.full_like(scale, ZERO_POINT, dtype=torch.uint8)),
            {"axis": 0},
            dtype=torch.uint8,
            shape=tokens.shape,
            version=OPSET,
        )
        sums = operator(
            "com.microsoft::MatMulIntegerToFloat",
            (quantized, self.weight, self.one, self.scale, self.zero, self.weight_zero),
            dtype=torch.float32,
            shape=(tokens.shape[0], self.out_features),
            version=1,
        )
        result = sums * scale[:, None]  # (t, out)
        if self.bias is not None:
            result = result + self.bias
        return result.view(*x.shape[:-1], self.out_features)
