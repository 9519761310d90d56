"""Folders that cannot be loaded: one clear line for each, the same before a run as in it."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from harness.common.errors import SkylineError
from harness.models import checkpoints
from harness.models.checkpoints import base_config, check_base_model, load_model, places
from harness.models.encoder.encoder import Encoder
from tests.support.folder_damage import Damage, change_config, change_weights, cut, drop, write
from tests.support.one_line_errors import refused


def as_binary(content: Callable[[Path], bytes]) -> Damage:
    def spoil(folder: Path) -> None:
        (folder / "pytorch_model.bin").write_bytes(content(folder))
        (folder / "model.safetensors").unlink()

    return spoil


def saved(value: object) -> Callable[[Path], bytes]:
    def content(folder: Path) -> bytes:
        path = folder / "value"
        torch.save(value, path)
        return path.read_bytes()

    return content


class Malicious:
    """Unpickled, it would make a folder."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("proof-of-execution",))


QUERY = "bert.encoder.layer.1.attention.self.query.weight"
HEADER_ONLY = struct.pack("<Q", 10**12) + b"{}"
BROKEN: dict[str, tuple[Damage, str]] = {
    "no config": (drop("config.json"), "no config.json"),
    "config is no JSON": (write("config.json", b"{"), "no JSON"),
    "config is binary": (write("config.json", b"\xff\xfe\x00"), "no JSON"),
    "config is a list": (write("config.json", b"[]"), "no configuration"),
    "another architecture": (change_config(model_type="gpt2"), "of type 'gpt2'"),
    "a decoder": (change_config(is_decoder=True), "decoder"),
    "relative positions": (change_config(position_embedding_type="relative_key"), "relative positions"),
    "unknown activation": (change_config(hidden_act="swish"), "swish.*known: gelu"),
    "activation is a list": (change_config(hidden_act=["gelu"]), "activation"),
    "no hidden size": (change_config(hidden_size=...), "does not say 'hidden_size'"),
    "heads do not divide": (change_config(num_attention_heads=5), "multiple of 5"),
    "no heads": (change_config(num_attention_heads=0), "no valid encoder"),
    "sizes are words": (change_config(hidden_size="wide"), "no valid encoder"),
    "sizes are null": (change_config(vocab_size=None), "no valid encoder"),
    "no layers": (change_config(num_hidden_layers=0), "no valid encoder"),
    "dropout of 2": (change_config(hidden_dropout_prob=2), "no valid encoder"),
    "more layers than weights": (change_config(num_hidden_layers=3), r"layer\.2\..* is missing"),
    "wider than its weights": (change_config(intermediate_size=41), r"shape \(40, 24\).*\(41, 24\)"),
    "no weights": (drop("model.safetensors"), "no model.safetensors and no pytorch_model.bin"),
    "empty weights": (cut("model.safetensors", 0), "cannot be read"),
    "half the weights": (cut("model.safetensors", 0.5), "cannot be read"),
    "a header that lies": (write("model.safetensors", HEADER_ONLY), "cannot be read"),
    "a weight less": (
        change_weights("model.safetensors", lambda t: t.pop(QUERY)),
        "'encoder.layer.1.attention.self.query.weight' is missing",
    ),
    "a weight of another shape": (
        change_weights("model.safetensors", lambda t: t.update({QUERY: torch.zeros(24, 25)})),
        r"shape \(24, 25\)",
    ),
    "quantized weights": (
        change_weights(
            "model.safetensors", lambda t: t.update({QUERY: torch.zeros(24, 24, dtype=torch.int8)})
        ),
        "int8.*quantization",
    ),
    "a pickle that runs code": (
        as_binary(saved({"weight": Malicious()})),
        "damaged or holds more than weights",
    ),
    "a bare pickle": (as_binary(lambda _: pickle.dumps(Malicious())), "damaged or holds more than weights"),
    "a torn pickle": (as_binary(lambda f: saved({"w": torch.ones(99)})(f)[:500]), "damaged"),
    "an empty pickle": (as_binary(lambda _: b""), "damaged"),
    "a pickled list": (as_binary(saved([torch.ones(2)])), "no weights by name"),
    "a nested state": (as_binary(saved({"state_dict": {"a": torch.ones(2)}})), "is missing"),
    "a torn tokenizer": (cut("tokenizer.json", 0.5), "tokenizer .* cannot be read"),
    "more tokens than rows": (change_config(vocab_size=20), "more tokens than its embedding has rows"),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("case", BROKEN)
def test_broken_folders(case: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spoil, says = BROKEN[case]
    check_base_model(str(checkpoint))
    spoil(checkpoint)
    # The check says before a run what loading would say in it.
    messages = []
    for ask in (load_model, check_base_model):
        with refused(says) as error:
            ask(str(checkpoint))
        assert str(checkpoint) in str(error.value)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert not Path("proof-of-execution").exists()


def test_checking_reads_no_weights(checkpoint: Path) -> None:
    """A checkpoint of a tebibyte, more than fits into memory, passes: only its header is read."""
    change_config(vocab_size=2**28, hidden_size=1024)(checkpoint)
    with torch.device("meta"):
        model = Encoder(base_config(str(checkpoint)))
    header, end = dict[str, object](), 0
    for ours, theirs in checkpoints.hf_names(model.config).items():
        parameter = model.get_parameter(ours)
        span = [end, end + 4 * parameter.numel()]
        header[f"bert.{theirs}"] = {"dtype": "F32", "shape": list(parameter.shape), "data_offsets": span}
        end = span[1]
    text = json.dumps(header).encode()
    with (checkpoint / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)  # a hole, which takes no room on the disk
    assert end > 2**40
    check_base_model(str(checkpoint))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "torch's first format"])
def test_checking_a_pickled_checkpoint(zipped: bool, checkpoint: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    for name, says in ((QUERY, None), ("renamed", "layer.1.attention.self.query.weight' is missing")):
        weights[name] = weights.pop(QUERY)
        torch.save(weights, checkpoint / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        if says is None:
            check_base_model(str(checkpoint))
            continue
        with pytest.raises(SkylineError, match=says):
            check_base_model(str(checkpoint))


@pytest.mark.parametrize("kind", ["gpt2", "roberta"])
def test_other_architectures_of_transformers_are_refused(kind: str, tmp_path: Path) -> None:
    """Folders as `transformers` itself writes them."""
    from transformers import GPT2Config, GPT2Model, RobertaConfig, RobertaModel

    if kind == "gpt2":
        GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=20)).save_pretrained(tmp_path)
    else:
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 20}
        RobertaModel(RobertaConfig(**sizes, intermediate_size=8)).save_pretrained(tmp_path)
    with refused(f"of type '{kind}'"):
        check_base_model(str(tmp_path))


def test_checking_asks_for_a_tokenizer(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop("tokenizer.json")(checkpoint)
    check_base_model(str(checkpoint), needs_tokenizer=False)
    with refused(r"no tokenizer\.json and no vocab\.txt") as error:
        check_base_model(str(checkpoint))
    assert str(checkpoint) in str(error.value)
    monkeypatch.setattr(places, "package_folder", lambda: None)
    check_base_model("bert-tiny", needs_tokenizer=False)
    with refused(r"'tiny' has no tokenizer.*bert-skyline\[offline\]"):
        check_base_model("tiny")
