"""Checkpoints that cannot be loaded: one clear line for each, the same before a run and during it."""

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

from harness.common.errors import Code
from harness.models import checkpoints
from harness.models.checkpoints import base_config, check_base_model, load_model, places
from harness.models.checkpoints.importing import ACTIVATIONS
from harness.models.checkpoints.weights import WEIGHT_FILES
from harness.models.encoder.encoder import Encoder
from tests.support.encoder_models import TINY, VOCABULARY
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
    """An object that makes a folder when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("proof-of-execution",))


QUERY = "bert.encoder.layer.1.attention.self.query.weight"
HEADER_ONLY = struct.pack("<Q", 10**12) + b"{}"
BROKEN: dict[str, tuple[Damage, Code | str, list[str]]] = {
    "no config": (drop("config.json"), Code.NOT_FOUND, ["config.json"]),
    "config is not JSON": (write("config.json", b"{"), Code.UNREADABLE, ["config.json"]),
    "config is binary": (write("config.json", b"\xff\xfe\x00"), Code.UNREADABLE, ["config.json"]),
    "config is a list": (write("config.json", b"[]"), Code.WRONG_KIND, ["config.json"]),
    "another architecture": (change_config(model_type="gpt2"), Code.WRONG_KIND, ["'gpt2'"]),
    "a decoder": (change_config(is_decoder=True), Code.WRONG_KIND, ["decoder"]),
    "relative positions": (
        change_config(position_embedding_type="relative_key"),
        Code.WRONG_KIND,
        ["relative positions"],
    ),
    "unknown activation": (change_config(hidden_act="swish"), Code.UNKNOWN_NAME, ["'swish'", *ACTIVATIONS]),
    "activation is a list": (change_config(hidden_act=["gelu"]), Code.UNKNOWN_NAME, ["activation"]),
    "no hidden size": (change_config(hidden_size=...), Code.INCOMPLETE, ["'hidden_size'"]),
    "heads do not divide": (
        change_config(num_attention_heads=5),
        Code.DAMAGED,
        ["5 heads", f"size {TINY.hidden_size}"],
    ),
    "no heads": (change_config(num_attention_heads=0), Code.DAMAGED, ["config.json"]),
    "sizes are words": (change_config(hidden_size="wide"), Code.DAMAGED, ["config.json"]),
    "sizes are null": (change_config(vocab_size=None), Code.DAMAGED, ["config.json"]),
    "no layers": (change_config(num_hidden_layers=0), Code.DAMAGED, ["config.json"]),
    "dropout of 2": (change_config(hidden_dropout_prob=2), Code.DAMAGED, ["config.json"]),
    "more layers than weights": (change_config(num_hidden_layers=3), Code.INCOMPLETE, ["layer.2."]),
    "wider than its weights": (change_config(intermediate_size=41), Code.CONFLICT, ["(40, 24)", "(41, 24)"]),
    "no weights": (drop("model.safetensors"), Code.NOT_FOUND, [*WEIGHT_FILES]),
    "empty weights": (cut("model.safetensors", 0), Code.UNREADABLE, ["model.safetensors"]),
    "half the weights": (cut("model.safetensors", 0.5), Code.UNREADABLE, ["model.safetensors"]),
    "a header that lies": (write("model.safetensors", HEADER_ONLY), Code.UNREADABLE, ["model.safetensors"]),
    "a missing weight": (
        change_weights("model.safetensors", lambda t: t.pop(QUERY)),
        Code.INCOMPLETE,
        ["'encoder.layer.1.attention.self.query.weight'"],
    ),
    "a weight of another shape": (
        change_weights("model.safetensors", lambda t: t.update({QUERY: torch.zeros(24, 25)})),
        Code.CONFLICT,
        ["(24, 25)", "(24, 24)"],
    ),
    "quantized weights": (
        change_weights(
            "model.safetensors", lambda t: t.update({QUERY: torch.zeros(24, 24, dtype=torch.int8)})
        ),
        Code.WRONG_KIND,
        ["query.weight", "int8"],
    ),
    "a pickle that runs code": (as_binary(saved({"weight": Malicious()})), Code.DAMAGED, ["model.bin"]),
    "a bare pickle": (as_binary(lambda _: pickle.dumps(Malicious())), Code.DAMAGED, ["model.bin"]),
    "a torn pickle": (
        as_binary(lambda f: saved({"w": torch.ones(99)})(f)[:500]),
        Code.DAMAGED,
        ["model.bin"],
    ),
    "an empty pickle": (as_binary(lambda _: b""), Code.DAMAGED, ["model.bin"]),
    "a pickled list": (as_binary(saved([torch.ones(2)])), Code.WRONG_KIND, ["model.bin", "state_dict"]),
    "a nested state": (
        as_binary(saved({"state_dict": {"a": torch.ones(2)}})),
        Code.INCOMPLETE,
        ["embedding"],
    ),
    "a torn tokenizer": (cut("tokenizer.json", 0.5), "tokenizer", []),
    "more tokens than rows": (
        change_config(vocab_size=20),
        Code.CONFLICT,
        [f"{len(VOCABULARY)} tokens", "20 rows"],
    ),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("case", BROKEN)
def test_broken_folders(case: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spoil, code, names = BROKEN[case]
    check_base_model(str(checkpoint))
    spoil(checkpoint)
    # The check raises before a run the error that loading would raise in it.
    messages = set()
    for ask in (load_model, check_base_model):
        with refused(code, str(checkpoint), *names) as error:
            ask(str(checkpoint))
        messages.add(str(error.value))
    assert len(messages) == 1
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
        file.truncate(8 + len(text) + end)  # a sparse file, which takes no space on the disk
    assert end > 2**40
    check_base_model(str(checkpoint))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "torch's first format"])
def test_checking_a_pickled_checkpoint(zipped: bool, checkpoint: Path) -> None:
    weights = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    path = checkpoint / "pytorch_model.bin"
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    check_base_model(str(checkpoint))
    weights["renamed"] = weights.pop(QUERY)
    torch.save(weights, path, _use_new_zipfile_serialization=zipped)
    with refused(Code.INCOMPLETE, "layer.1.attention.self.query.weight"):
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
    with refused(Code.WRONG_KIND, f"'{kind}'"):
        check_base_model(str(tmp_path))


def test_checking_asks_for_a_tokenizer(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop("tokenizer.json")(checkpoint)
    check_base_model(str(checkpoint), needs_tokenizer=False)
    with refused("tokenizer", str(checkpoint), "tokenizer.json", "vocab.txt"):
        check_base_model(str(checkpoint))
    monkeypatch.setattr(places, "package_folder", lambda: None)
    check_base_model("bert-tiny", needs_tokenizer=False)
    with refused(Code.NOT_INSTALLED, "'tiny'", "tokenizer", "bert-skyline[offline]"):
        check_base_model("tiny")
