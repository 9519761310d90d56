from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.common.errors import Code
from harness.models.artifacts import load_artifact, save_artifact
from harness.models.batch import Batch
from harness.models.codecs import Bitmask, Codec, Int8
from harness.models.config import COMPONENTS, EncoderConfig, LayerConfig
from harness.models.encoder.encoder import Encoder
from harness.profiling.costs.components import (
    FEWEST_ROUNDS,
    activation_bytes,
    component_params,
    component_weight_bytes,
    stored_params,
    stored_tensors,
    time_components,
)
from harness.runtimes import Executable, get_runtime
from tests.support.one_line_errors import refused

LAYER = LayerConfig(heads=2, head_size=8, ffn_size=40)
CONFIG = EncoderConfig(vocab_size=50, hidden_size=16, positions=32, layers=(LAYER, LAYER))


def build(config: EncoderConfig = CONFIG) -> Encoder:
    return Encoder(config).initialize(torch.Generator().manual_seed(0)).eval()


def closed_form(config: EncoderConfig, layers: int) -> dict[str, int]:
    """Count the parameters by component for `layers` unshared layers of `LAYER`'s shape."""
    hidden, width, ffn = config.hidden_size, LAYER.projection_size, LAYER.ffn_size
    return {
        "embedding": hidden * (config.vocab_size + config.positions + config.segments) + 2 * hidden,
        "attention_in": layers * 3 * (hidden * width + width),
        "attention": 0,
        "attention_out": layers * (width * hidden + hidden + 2 * hidden),
        "ffn": layers * (2 * hidden * ffn + ffn + hidden + 2 * hidden),
        "head": hidden * hidden + hidden + hidden * 2 + 2,
    }


def test_parameters_by_component() -> None:
    assert component_params(build()) == closed_form(CONFIG, 2)
    assert sum(component_params(build()).values()) == sum(p.numel() for p in build().parameters())


def test_shared_layers_have_their_parameters_once() -> None:
    shared = CONFIG.with_layers((LAYER, LAYER.model_copy(update={"shares_with": 0}), LAYER))
    assert component_params(build(shared)) == closed_form(CONFIG, 2)


def test_stored_bytes_of_a_dense_artifact(tmp_path: Path) -> None:
    save_artifact(build(), tmp_path / "a")
    model = load_artifact(tmp_path / "a")
    expected = {name: 4 * count for name, count in closed_form(CONFIG, 2).items()}
    assert component_weight_bytes(model, tmp_path / "a") == expected


def test_stored_bytes_of_a_compressed_artifact_hold_scales_and_masks(tmp_path: Path) -> None:
    shared = CONFIG.with_layers((LAYER, LAYER.model_copy(update={"shares_with": 0}), LAYER))
    model = build(shared)
    for name, parameter in model.named_parameters():
        if name in model.matrix_names():
            parameter.data[torch.rand(parameter.shape, generator=torch.Generator().manual_seed(1)) < 0.5] = 0
            model.storage.codecs[name] = Codec((Int8("channel"), Bitmask()))
            model.storage.kernels[name.removesuffix(".weight")] = "int8"
    save_artifact(model, tmp_path / "a")
    loaded = load_artifact(tmp_path / "a")
    found = component_weight_bytes(loaded, tmp_path / "a")
    tensors = load_file(tmp_path / "a" / "weights.safetensors")
    assert sum(found.values()) == sum(t.nbytes for t in tensors.values())
    assert found["ffn"] == sum(t.nbytes for name, t in tensors.items() if ".ffn." in name)
    assert any("scale" in name for name in tensors)
    # The model stays the same under each runtime.
    assert component_params(loaded) == closed_form(CONFIG, 2)
    nonzero = sum(int((p != 0).sum()) for n, p in model.named_parameters() if n in model.matrix_names())
    others = sum(p.numel() for n, p in model.named_parameters() if n not in model.matrix_names())
    assert stored_params(loaded, tmp_path / "a") <= nonzero + others
    assert stored_params(loaded, tmp_path / "a") > 0.9 * nonzero + others


def test_zeros_that_are_stored_are_stored_parameters(tmp_path: Path) -> None:
    model = build()
    model.layers[0].ffn.into.weight.data.zero_()
    save_artifact(model, tmp_path / "a")
    assert stored_params(load_artifact(tmp_path / "a"), tmp_path / "a") == sum(
        closed_form(CONFIG, 2).values()
    )


@pytest.mark.parametrize("content", [b"", b"\x05\x00\x00\x00\x00\x00\x00\x00[1,2]", b"\xff" * 64])
def test_torn_weights(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "weights.safetensors").write_bytes(content)
    with refused(Code.UNREADABLE, str(tmp_path)):
        stored_tensors(tmp_path)


def test_header_agrees_with_the_library(tmp_path: Path) -> None:
    save_artifact(build(), tmp_path / "a")
    tensors = load_file(tmp_path / "a" / "weights.safetensors")
    found = stored_tensors(tmp_path / "a")
    assert {n: (s.values, s.nbytes) for n, s in found.items()} == {
        n: (t.numel(), t.nbytes) for n, t in tensors.items()
    }


def test_activations_of_each_component() -> None:
    """Outputs of linear maps, embeddings, norms and attention count; views and inactive dropout add nothing."""
    b, n, hidden, width, ffn = 3, 5, 16, LAYER.projection_size, LAYER.ffn_size
    found = activation_bytes(build(), Batch.synthetic(b, n, 50))
    token = 4 * b * n
    assert found == {
        "embedding": token * (hidden + hidden + hidden),
        "attention_in": 2 * token * 3 * width,
        "attention": 2 * token * width,
        "attention_out": 2 * token * (hidden + hidden),
        "ffn": 2 * token * (ffn + hidden + hidden),
        "head": 4 * b * (hidden + 2),
    }


def test_activations_of_shared_layers_count_each_time() -> None:
    shared = CONFIG.with_layers((LAYER, LAYER.model_copy(update={"shares_with": 0})))
    batch = Batch.synthetic(2, 4, 50)
    assert activation_bytes(build(shared), batch) == activation_bytes(build(), batch)


def test_instruments_are_taken_off_again(tmp_path: Path) -> None:
    save_artifact(build(), tmp_path / "a")
    run = get_runtime("eager").load(tmp_path / "a", "cpu")
    assert run.model is not None
    activation_bytes(run.model, Batch.synthetic(1, 4, 50))
    time_components(run, Batch.synthetic(1, 4, 50), cap_s=0)
    for module in run.model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_times_of_all_components_and_what_they_leave(tmp_path: Path) -> None:
    save_artifact(build(), tmp_path / "a")
    run = get_runtime("eager").load(tmp_path / "a", "cpu")
    times = time_components(run, Batch.synthetic(2, 16, 50), cap_s=0)
    assert tuple(times.shares) == COMPONENTS
    assert all(share > 0 for share in times.shares.values())
    assert times.residual == pytest.approx(1 - sum(times.shares.values()))
    assert times.rounds >= FEWEST_ROUNDS


def test_a_runtime_without_modules_has_no_components() -> None:
    with pytest.raises(ValueError, match="does not show"):
        time_components(Executable(lambda batch: batch.input_ids), Batch.synthetic(1, 4, 50))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_components_on_cuda(tmp_path: Path) -> None:
    save_artifact(build(), tmp_path / "a")
    run = get_runtime("eager").load(tmp_path / "a", "cuda")
    times = time_components(run, Batch.synthetic(2, 16, 50).to("cuda"), cap_s=0)
    assert all(share > 0 for share in times.shares.values())


def test_stored_header_is_plain_json(tmp_path: Path) -> None:
    """The format's specification: eight bytes hold the header's length, then JSON follows."""
    save_artifact(build(), tmp_path / "a")
    raw = (tmp_path / "a" / "weights.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert set(stored_tensors(tmp_path / "a")) == set(header) - {"__metadata__"}
