"""Precisions of execution: what they change in a model, and what they do not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.models.artifacts import load_artifact
from harness.models.codecs import Codec, Int8
from harness.models.int8_linear import Int8Linear
from harness.runtimes import Execution, load
from harness.runtimes.precision import CLASSIFIER, BFloat16Linear, in_precision
from tests.support.runtime_models import BATCHES, CONFIGS, PLAIN, drawn, quantized, saved


def test_float32_changes_nothing() -> None:
    model = drawn(PLAIN)
    before = dict(model.named_modules())
    assert in_precision(model, "float32") is model
    assert dict(model.named_modules()) == before


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_all_maps_but_the_classifier_change(precision: str) -> None:
    model = in_precision(drawn(CONFIGS["factorized"]), precision)  # type: ignore[arg-type]
    kind = Int8Linear if precision == "int8" else BFloat16Linear
    left = [path for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    assert left == [CLASSIFIER]
    assert sum(isinstance(module, kind) for module in model.modules()) == 11


def test_layers_that_share_weights_still_do() -> None:
    model = in_precision(drawn(CONFIGS["shared"]), "int8")
    assert model.get_submodule("layers.0") is model.get_submodule("layers.1")
    assert sum(isinstance(module, Int8Linear) for module in model.modules()) == 7


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_what_an_artifact_executes_in_int8_stays(precision: str, tmp_path: Path) -> None:
    stored = load_artifact(saved(quantized(drawn(PLAIN), "tensor"), tmp_path / "a"))
    kernels = {path: module for path, module in stored.named_modules() if isinstance(module, Int8Linear)}
    model = in_precision(stored, precision)  # type: ignore[arg-type]
    assert kernels
    assert all(model.get_submodule(path) is kernel for path, kernel in kernels.items())


def test_weights_that_were_stored_in_int8_come_out_as_they_were(tmp_path: Path) -> None:
    """An artifact may store int8 and execute in float32; its codes are not rounded a second time."""
    model = drawn(PLAIN)
    name = "layers.0.ffn.into"
    model.storage.codecs[f"{name}.weight"] = Codec((Int8("channel"),))
    codes, beside = Int8("channel").encode(model.get_submodule(name).weight.detach())  # type: ignore[arg-type]
    found = in_precision(load_artifact(saved(model, tmp_path / "a")), "int8").get_submodule(name)
    assert isinstance(found, Int8Linear)
    assert torch.equal(found.weight, codes)
    assert torch.allclose(found.scale, beside["scale"], rtol=1e-6)


def test_int8_is_what_the_method_of_that_name_makes(tmp_path: Path) -> None:
    plain = saved(drawn(PLAIN), tmp_path / "plain")
    stored = saved(quantized(drawn(PLAIN)), tmp_path / "int8")
    chosen, own = load(Execution(plain, precision="int8")), load(Execution(stored))
    for batch in BATCHES:
        assert torch.equal(chosen(batch), own(batch))


def test_bfloat16_rounds_weights_and_inputs() -> None:
    linear = torch.nn.Linear(5, 3)
    x = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    found = BFloat16Linear(linear)(x)
    assert found.dtype == torch.float32

    def rounded(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().to(torch.bfloat16).double()

    exact = rounded(x) @ rounded(linear.weight).t() + rounded(linear.bias)
    assert torch.allclose(found.double(), exact, rtol=2**-7, atol=1e-3)
