"""The graphs that ONNX Runtime and OpenVINO execute: the same logits as eager's, for every kind of model."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harness.common.errors import Code
from harness.common.hardware import multiplies_signed
from harness.models.artifacts import load_artifact, read_tensors, to_dense
from harness.models.config import LayerConfig
from harness.models.int8_linear import Int8Linear
from harness.models.model import Model
from harness.runtimes import get_runtime
from harness.runtimes.graphs import GraphRuntime, run_graph
from harness.runtimes.onnx_export import Graph, export
from harness.runtimes.onnx_runtime import QuantizedMap
from harness.runtimes.openvino_runtime import group_of
from harness.runtimes.precision import in_precision
from tests.support.one_line_errors import refused
from tests.support.runtime_models import (
    BATCHES,
    CONFIGS,
    FIXED,
    PLAIN,
    POSITIONS,
    batch_of,
    drawn,
    encoder,
    quantized,
    saved,
)

NAMES = [name for name in ("onnxruntime", "openvino") if find_spec(name)]
WIDE = encoder(*[LayerConfig(heads=2, head_size=32, ffn_size=64)] * 2, hidden_size=64)
"""A model wide enough for OpenVINO's int8 kernels. All maps have the same number of inputs, so its groups are rows."""

pytestmark = pytest.mark.skipif(
    not NAMES or not find_spec("onnxscript"), reason="needs the extra 'onnx' or 'openvino'"
)
needs_onnxruntime = pytest.mark.skipif("onnxruntime" not in NAMES, reason="needs the extra 'onnx'")
needs_openvino = pytest.mark.skipif("openvino" not in NAMES, reason="needs the extra 'openvino'")


def runtime(name: str) -> GraphRuntime:
    found = get_runtime(name)
    assert isinstance(found, GraphRuntime)
    return found


def no_map(kernel: Int8Linear) -> nn.Module:
    raise AssertionError("nothing executes in int8 here")


@torch.inference_mode()
def eager(model: Model) -> list[Tensor]:
    return [model(batch).logits for batch in BATCHES]


def differences(graph: Graph, name: str, expected: list[Tensor]) -> list[float]:
    session = runtime(name).session(graph, "float32")
    found = [run_graph(graph, session, batch) for batch in BATCHES]
    assert [logits.shape for logits in found] == [logits.shape for logits in expected]
    return [float((a - b).abs().max()) for a, b in zip(found, expected, strict=True)]


@pytest.mark.parametrize("kind", CONFIGS)
def test_float32_logits_are_eagers(kind: str, tmp_path: Path) -> None:
    model = drawn(CONFIGS[kind])
    expected = eager(model)
    graph = export(model, POSITIONS, no_map, tmp_path)
    assert (graph.shortest == graph.longest) == (kind in FIXED)
    assert (graph.longest, graph.widths) == (POSITIONS, ())
    for name in NAMES:
        assert max(differences(graph, name, expected)) < 1e-5, name


def test_a_graph_says_for_which_lengths_it_holds(tmp_path: Path) -> None:
    graph = export(drawn(CONFIGS["eliminated words"]), 20, no_map, tmp_path)
    # The first layer keeps 9 tokens: shorter rows lose none, and take another path through the code.
    assert (graph.shortest, graph.longest) == (10, POSITIONS)
    assert Graph.read(tmp_path) == graph


def test_rows_longer_than_a_fixed_graph_are_refused(tmp_path: Path) -> None:
    graph = export(drawn(CONFIGS["local attention"]), 16, no_map, tmp_path)
    assert (graph.shortest, graph.longest) == (16, 16)
    with refused(Code.TOO_LONG, "17", "16"):
        run_graph(graph, lambda inputs: inputs["input_ids"], batch_of([17]))


@needs_onnxruntime
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("per", ["channel", "tensor"])
def test_onnxruntimes_int8_maps_are_the_kernels(signed: bool, per: str, tmp_path: Path) -> None:
    if signed and not multiplies_signed():
        pytest.skip("this processor overflows")
    saved(quantized(drawn(CONFIGS["factorized"]), per), tmp_path / "a")
    model = load_artifact(tmp_path / "a")
    expected = eager(model)
    graph = export(model, POSITIONS, lambda kernel: QuantizedMap(kernel, signed), tmp_path)
    assert max(differences(graph, "onnxruntime", expected)) < 1e-5


@needs_openvino
def test_openvinos_int8_maps_are_the_kernels_where_groups_are_rows(tmp_path: Path) -> None:
    in_float = eager(drawn(WIDE))
    model = in_precision(drawn(WIDE), "int8")
    in_int8 = eager(model)
    # If the processor does not multiply bytes, OpenVINO rounds only the weights.
    expected = in_int8 if multiplies_signed() else eager(to_dense(model).eval())
    graph = export(model, POSITIONS, runtime("openvino").int8_map, tmp_path)
    assert graph.widths == (64,)
    lost = max(float((a - b).abs().max()) for a, b in zip(in_int8, in_float, strict=True))
    # Rarely, numbers halfway between two integers are rounded differently.
    assert max(differences(graph, "openvino", expected)) < 0.1 * lost


def test_openvinos_groups_fit_the_narrowest_map_that_can_be_quantized() -> None:
    asked = ((768, 3072), (384, 1536), (312, 1200), (8, 40, 768), (8,), ())
    assert [group_of(widths) for widths in asked] == [768, 384, 288, 32, 0, 0]


@pytest.mark.parametrize("name", NAMES)
def test_the_artifacts_own_int8_weights_are_in_the_graph(name: str, tmp_path: Path) -> None:
    import onnx
    from onnx.numpy_helper import to_array

    folder = saved(quantized(drawn(PLAIN)), tmp_path / "a")
    stored = [value for value in read_tensors(folder).values() if value.dtype == torch.int8]
    (tmp_path / "graph").mkdir()
    runtime(name).prepare(folder, "int8", POSITIONS, tmp_path / "graph")
    proto = onnx.load(Graph.read(tmp_path / "graph").path)
    arrays = [torch.from_numpy(to_array(found).copy()) for found in proto.graph.initializer]
    signed = name != "onnxruntime" or multiplies_signed()
    kind, zero = (torch.int8, 0) if signed else (torch.uint8, 128)
    written = [(array - zero).to(torch.int8) for array in arrays if array.dtype == kind and array.dim() == 2]
    assert len(written) == len(stored) == 13
    for value in stored:
        assert any(torch.equal(value, found) or torch.equal(value.t(), found) for found in written)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", ["float32", "int8", "bfloat16"])
def test_loading_an_artifact_as_it_is(name: str, precision: str, tmp_path: Path) -> None:
    found = runtime(name)
    if found.lacks(precision, "cpu"):  # type: ignore[arg-type]
        pytest.skip(f"{name} has no {precision} here")
    folder = saved(drawn(WIDE), tmp_path / "a")
    executable = found.load(folder, "cpu", precision)  # type: ignore[arg-type]
    assert executable.model is None
    expected = get_runtime("eager").load(folder, "cpu")(BATCHES[0])
    allowed = 1e-5 if precision == "float32" else 0.1
    assert float((executable(BATCHES[0]) - expected).abs().max()) < allowed
