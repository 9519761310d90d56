"""Reading and writing of folders and hub repositories in Hugging Face's format."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.models.checkpoints import load_model, origin_of, save_checkpoint
from harness.models.encoder.encoder import Encoder
from harness.models.tokenizer import Tokenizer
from tests.support.encoder_models import TINY, VOCABULARY, equal_weights
from tests.support.folder_damage import change_config, drop
from tests.support.one_line_errors import refused


def test_origin_is_the_files_hash_even_after_it_changed(checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    for seed in (1, 2):
        if seed == 2:
            tensors = load_file(weights)
            weights.unlink()
            save_file({name: tensor + 1 for name, tensor in tensors.items()}, weights)
            os.utime(weights, ns=(0, seed))
        expected = "sha256:" + hashlib.sha256(weights.read_bytes()).hexdigest()
        assert load_model(str(checkpoint)).origin == expected
        assert origin_of(str(checkpoint)).startswith(f"{expected}+")


def test_first_configurations_without_a_type(checkpoint: Path) -> None:
    expected = load_model(str(checkpoint))
    change_config(model_type=..., layer_norm_eps=..., position_embedding_type=None)(checkpoint)
    assert equal_weights(load_model(str(checkpoint)), expected)


def test_a_folder_without_tokenizer(checkpoint: Path) -> None:
    drop("tokenizer.json")(checkpoint)
    model = load_model(str(checkpoint))
    with refused("tokenizer"):
        model.encode(["the bridge"])


def test_hub_checkpoints_of_either_format(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository that has only pytorch_model.bin, as old ones do, is read too."""
    binary = tmp_path / "binary"
    binary.mkdir()
    (binary / "config.json").write_bytes((checkpoint / "config.json").read_bytes())
    torch.save(load_file(checkpoint / "model.safetensors"), binary / "pytorch_model.bin")

    def download(name: str, allow_patterns: list[str], local_files_only: bool) -> str:
        return str({"some/safe": checkpoint, "some/binary": binary}[name])

    monkeypatch.undo()
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    one, other = load_model("some/safe"), load_model("some/binary")
    assert one.config.hidden_size == TINY.hidden_size
    assert equal_weights(one, other)
    assert one.origin != other.origin


def test_vocabulary_files_follow_their_configuration(tmp_path: Path) -> None:
    """vocab.txt lower-cases unless tokenizer_config.json says otherwise, however that file is spaced."""
    vocabulary = [*VOCABULARY, "River", "cafe"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    assert Tokenizer.from_folder(tmp_path).tokens(["River café"], None, 9)[0].tokens == [
        *("[CLS]", "river", "cafe", "[SEP]")
    ]
    for separators in ((",", ":"), (", ", ": ")):
        config = json.dumps({"do_lower_case": False}, separators=separators)
        (tmp_path / "tokenizer_config.json").write_text(config)
        assert Tokenizer.from_folder(tmp_path).tokens(["River"], None, 9)[0].tokens[1] == "River"
    (tmp_path / "tokenizer_config.json").write_text("{")
    with refused("tokenizer"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    with refused("tokenizer", "tokenizer.json", "vocab.txt"):
        Tokenizer.from_folder(tmp_path)


def test_a_vocabulary_folder_loads(tiny: Encoder, checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").unlink()
    (checkpoint / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    ids = load_model(str(checkpoint)).encode(["the broken bridge"]).input_ids
    assert torch.equal(ids, tiny.encode(["the broken bridge"]).input_ids)


def test_compressed_models_are_not_saved_as_float32(tiny: Encoder, tmp_path: Path) -> None:
    from harness.models.int8_linear import Int8Linear, replace_linear

    weight = torch.ones(24, 24, dtype=torch.int8)
    replace_linear(tiny, "layers.0.attention_in.query", Int8Linear(weight, torch.ones(24), None))
    with refused("int8"):
        save_checkpoint(tiny, tmp_path / "no")
    assert list(tmp_path.iterdir()) == []


def test_conversion_both_ways_is_public(tiny: Encoder, tmp_path: Path) -> None:
    """`from harness import load_model, save_checkpoint`, without torch until one is used."""
    import harness

    assert {"load_model", "save_checkpoint"} <= set(harness.__all__)
    harness.save_checkpoint(tiny, tmp_path / "out")
    assert equal_weights(harness.load_model(str(tmp_path / "out")), tiny)
