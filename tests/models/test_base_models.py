"""load_model: names, seeds and origins, and names that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from harness.common.errors import Code
from harness.models import checkpoints
from harness.models.checkpoints import (
    ALIASES,
    BASE_MODELS,
    MINILM_SHA256,
    base_config,
    check_base_model,
    load_model,
    model_names,
    origin_of,
    places,
)
from harness.models.encoder.encoder import Encoder
from tests.support.encoder_models import TINY, equal_weights, random_weights
from tests.support.one_line_errors import refused


def test_names() -> None:
    assert model_names() == ("minilm-l6", *BASE_MODELS)
    sizes = {name: (len(m.config.layers), m.config.hidden_size) for name, m in BASE_MODELS.items()}
    assert sizes["bert-base"] == (12, 768)
    assert sizes["bert-large"] == (24, 1024)
    # Turc et al. 2019, Table 1: every size's name carries L and H on the hub.
    for model in list(BASE_MODELS.values())[2:]:
        layers, hidden = len(model.config.layers), model.config.hidden_size
        assert model.hub.endswith(f"L-{layers}_H-{hidden}_A-{hidden // 64}")


def test_random_weights_are_reproducible_and_say_so() -> None:
    one, again, other = (load_model("bert-tiny", seed=seed) for seed in (3, 3, 4))
    assert equal_weights(one, again)
    assert not equal_weights(one, other)
    assert one.origin == again.origin
    assert "random" in one.origin
    assert "3" in one.origin
    assert origin_of("bert-tiny") == "random:bert-tiny"
    assert not one.training
    # BERT's own initialisation: normal(0, 0.02), zero biases, unit norms.
    words = one.embedding.word.weight
    assert abs(words.std().item() - 0.02) < 1e-4
    assert abs(words.mean().item()) < 1e-4
    assert not one.layers[0].ffn.into.bias.any()
    assert torch.equal(one.layers[0].ffn.norm.weight, torch.ones(128))


def test_loading_leaves_torchs_seed_to_the_weights_only() -> None:
    """The weights depend on `seed`, not on torch's global state."""
    torch.manual_seed(1)
    one = load_model("bert-tiny", seed=0)
    torch.manual_seed(2)
    assert equal_weights(one, load_model("bert-tiny", seed=0))


@pytest.mark.parametrize("alias", ["tiny"])
def test_aliases(alias: str) -> None:
    assert equal_weights(load_model(alias), load_model(ALIASES[alias]))
    assert origin_of(alias) == origin_of(ALIASES[alias])
    assert set(ALIASES.values()) < set(BASE_MODELS)


def test_heads_come_from_the_seed_and_the_rest_from_the_file(minilm: Encoder) -> None:
    again, other = (load_model("minilm-l6", labels=3, seed=seed) for seed in (1, 2))
    assert equal_weights(minilm, again)
    assert not equal_weights(minilm.head, other.head)
    for part in ("embedding", "layers"):
        assert equal_weights(getattr(minilm, part), getattr(other, part))
    first, second = (load_model("minilm-l6@first-token", labels=3, seed=seed) for seed in (1, 2))
    assert torch.equal(first.head.pooler.weight, second.head.pooler.weight), "MiniLM's file has a pooler"
    assert minilm.origin == other.origin == origin_of("minilm-l6") == f"sha256:{MINILM_SHA256}"


def test_another_file_in_minilms_place_is_refused(
    minilm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray((minilm_folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(content)
    monkeypatch.setattr(places, "package_folder", lambda: tmp_path)
    with refused(Code.DAMAGED, "minilm-l6", "sha256"):
        load_model("minilm-l6")


def test_minilm_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "package_folder", lambda: None)
    with refused(Code.NOT_INSTALLED, "minilm-l6", "offline"):
        load_model("minilm-l6")
    model = load_model("bert-tiny")
    assert model.tokenizer is None
    with refused("tokenizer", "offline"):
        model.encode(["the bridge"])


@pytest.mark.parametrize(
    ("name", "code", "suggested"),
    [
        ("bert-tinny", Code.UNKNOWN_NAME, "'bert-tiny'"),
        ("minilm", Code.UNKNOWN_NAME, "'minilm-l6'"),
        ("Bert-Base", Code.UNKNOWN_NAME, "'bert-base'"),
        ("qqqqqqqq", Code.UNKNOWN_NAME, "bert-base, bert-large"),
        ("", Code.UNKNOWN_NAME, "bert-base, bert-large"),
        ("./nowhere", Code.NOT_FOUND, "config.json"),
        ("a/folder/that-is-missing", Code.NOT_FOUND, "config.json"),
        ("someone/some-model", Code.NOT_FOUND, "hub"),
    ],
)
def test_unknown_names(name: str, code: Code, suggested: str) -> None:
    for ask in (load_model, origin_of, check_base_model, base_config):
        with refused(code, name, suggested):
            ask(name)


@pytest.mark.parametrize(
    ("labels", "head"), [(3, "span"), (2, "regression"), (0, "classification"), (2, "sequence")]
)
def test_impossible_heads(labels: int, head: str) -> None:
    with refused("head"):
        load_model("bert-tiny", labels=labels, head=head)


def test_checking_built_in_names(minilm_folder: Path) -> None:
    for name in (*model_names(), *ALIASES):
        check_base_model(name)
        assert base_config(name).vocab_size == 30522


def test_a_folder_goes_before_a_built_in_name(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.rename(tmp_path / "bert-mini")
    monkeypatch.chdir(tmp_path)
    assert load_model("bert-mini").config.hidden_size == TINY.hidden_size
    assert origin_of("bert-mini").startswith("sha256:")


def test_random_model_is_bert_and_nothing_else_moves() -> None:
    """The helper `random_weights` changes every parameter of the model that it starts from."""
    one, other = random_weights(TINY, 0), checkpoints.random_model(TINY, 0)
    moved = [not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)]
    assert all(moved)


def test_every_public_name_is_in_the_package() -> None:
    for name in checkpoints.__all__:
        assert getattr(checkpoints, name) is not None, name
