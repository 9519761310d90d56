"""load_model: names, seeds and origins, and one clear line for every folder that cannot be loaded."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from encoder_models import TINY, VOCABULARY, logits, random_batch, random_weights
from safetensors.torch import load_file, save_file

from harness import checkpoints
from harness.checkpoints import (
    ALIASES,
    BASE_MODELS,
    MINILM_SHA256,
    base_config,
    check_base_model,
    load_model,
    model_names,
    origin_of,
    places,
    save_checkpoint,
)
from harness.encoder import Encoder
from harness.errors import SkylineError
from harness.tokenizer import Tokenizer


def one_line(error: pytest.ExceptionInfo[SkylineError]) -> str:
    message = str(error.value)
    assert message
    assert "\n" not in message
    return message


def equal_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    state, others = one.state_dict(), other.state_dict()
    return state.keys() == others.keys() and all(torch.equal(state[name], others[name]) for name in state)


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
    assert torch.equal(minilm.head.pooler.weight, other.head.pooler.weight), "MiniLM's file has a pooler"
    assert minilm.origin == other.origin == origin_of("minilm-l6") == f"sha256:{MINILM_SHA256}"


def test_another_file_in_minilms_place_is_refused(
    minilm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = bytearray((minilm_folder / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "model.safetensors").write_bytes(content)
    monkeypatch.setattr(places, "package_folder", lambda: tmp_path)
    with pytest.raises(SkylineError, match="sha256 differs") as error:
        load_model("minilm-l6")
    one_line(error)


def test_minilm_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "package_folder", lambda: None)
    with pytest.raises(SkylineError, match="offline"):
        load_model("minilm-l6")
    model = load_model("bert-tiny")
    assert model.tokenizer is None
    with pytest.raises(SkylineError, match=r"no tokenizer.*offline") as error:
        model.encode(["the bridge"])
    one_line(error)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("bert-tinny", "did you mean 'bert-tiny'"),
        ("minilm", "did you mean 'minilm-l6'"),
        ("Bert-Base", "did you mean 'bert-base'"),
        ("qqqqqqqq", "known: bert-base"),
        ("", "known: bert-base"),
        ("./nowhere", "no folder ./nowhere"),
        ("a/folder/that-is-missing", "no folder a/folder"),
        ("someone/some-model", "hub does not answer"),
    ],
)
def test_unknown_names(name: str, says: str) -> None:
    for ask in (load_model, origin_of, check_base_model, base_config):
        with pytest.raises(SkylineError, match=says) as error:
            ask(name)
        one_line(error)


@pytest.mark.parametrize(
    ("labels", "head"), [(3, "span"), (2, "regression"), (0, "classification"), (2, "sequence")]
)
def test_impossible_heads(labels: int, head: str) -> None:
    with pytest.raises(SkylineError, match="head") as error:
        load_model("bert-tiny", labels=labels, head=head)
    one_line(error)


@pytest.fixture
def folder(tiny: Encoder, tmp_path: Path) -> Path:
    """A healthy Hugging Face folder that each test spoils in one way."""
    save_checkpoint(tiny, tmp_path / "healthy")
    assert torch.equal(
        logits(load_model(str(tmp_path / "healthy")), random_batch([5, 9], TINY.vocab_size)),
        logits(tiny, random_batch([5, 9], TINY.vocab_size)),
    )
    return tmp_path / "healthy"


def test_origin_is_the_files_hash_even_after_it_changed(folder: Path) -> None:
    weights = folder / "model.safetensors"
    for seed in (1, 2):
        if seed == 2:
            tensors = load_file(weights)
            weights.unlink()
            save_file({name: tensor + 1 for name, tensor in tensors.items()}, weights)
            os.utime(weights, ns=(0, seed))
        expected = "sha256:" + hashlib.sha256(weights.read_bytes()).hexdigest()
        assert load_model(str(folder)).origin == expected
        assert origin_of(str(folder)).startswith(f"{expected}+")


def change_config(**changes: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        data = {**json.loads((folder / "config.json").read_text()), **changes}
        data = {key: value for key, value in data.items() if value is not Ellipsis}
        (folder / "config.json").write_text(json.dumps(data))

    return spoil


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return spoil


def drop(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def truncate(name: str, keep: float) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(len(content) * keep)])

    return spoil


def change_weights(edit: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
        edit(tensors)
        (folder / "model.safetensors").unlink()
        save_file(tensors, folder / "model.safetensors")

    return spoil


def as_binary(content: Callable[[Path], bytes]) -> Callable[[Path], None]:
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
BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
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
    "empty weights": (truncate("model.safetensors", 0), "cannot be read"),
    "half the weights": (truncate("model.safetensors", 0.5), "cannot be read"),
    "a header that lies": (write("model.safetensors", HEADER_ONLY), "cannot be read"),
    "a weight less": (
        change_weights(lambda t: t.pop(QUERY)),
        "'encoder.layer.1.attention.self.query.weight' is missing",
    ),
    "a weight of another shape": (
        change_weights(lambda t: t.update({QUERY: torch.zeros(24, 25)})),
        r"shape \(24, 25\)",
    ),
    "quantized weights": (
        change_weights(lambda t: t.update({QUERY: torch.zeros(24, 24, dtype=torch.int8)})),
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
    "a torn tokenizer": (truncate("tokenizer.json", 0.5), "tokenizer .* cannot be read"),
    "more tokens than rows": (change_config(vocab_size=20), "more tokens than its embedding has rows"),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("case", BROKEN)
def test_broken_folders(case: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spoil, says = BROKEN[case]
    check_base_model(str(folder))
    spoil(folder)
    # The check says before a run what loading would say in it.
    messages = []
    for ask in (load_model, check_base_model):
        with pytest.raises(SkylineError, match=says) as error:
            ask(str(folder))
        assert str(folder) in one_line(error)
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert not Path("proof-of-execution").exists()


def test_checking_reads_no_weights(folder: Path) -> None:
    """A checkpoint of a tebibyte, more than fits into memory, passes: only its header is read."""
    change_config(vocab_size=2**28, hidden_size=1024)(folder)
    with torch.device("meta"):
        model = Encoder(base_config(str(folder)))
    header, end = dict[str, object](), 0
    for ours, theirs in checkpoints.hf_names(model.config).items():
        parameter = model.get_parameter(ours)
        span = [end, end + 4 * parameter.numel()]
        header[f"bert.{theirs}"] = {"dtype": "F32", "shape": list(parameter.shape), "data_offsets": span}
        end = span[1]
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)  # a hole, which takes no room on the disk
    assert end > 2**40
    check_base_model(str(folder))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "torch's first format"])
def test_checking_a_pickled_checkpoint(zipped: bool, folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    for name, says in ((QUERY, None), ("renamed", "layer.1.attention.self.query.weight' is missing")):
        weights[name] = weights.pop(QUERY)
        torch.save(weights, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
        if says is None:
            check_base_model(str(folder))
            continue
        with pytest.raises(SkylineError, match=says):
            check_base_model(str(folder))


@pytest.mark.parametrize("kind", ["gpt2", "roberta"])
def test_other_architectures_of_transformers_are_refused(kind: str, tmp_path: Path) -> None:
    """Folders as `transformers` itself writes them."""
    from transformers import GPT2Config, GPT2Model, RobertaConfig, RobertaModel

    if kind == "gpt2":
        GPT2Model(GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=20)).save_pretrained(tmp_path)
    else:
        sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 20}
        RobertaModel(RobertaConfig(**sizes, intermediate_size=8)).save_pretrained(tmp_path)
    with pytest.raises(SkylineError, match=f"of type '{kind}'") as error:
        check_base_model(str(tmp_path))
    one_line(error)


def test_checking_asks_for_a_tokenizer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop("tokenizer.json")(folder)
    check_base_model(str(folder), needs_tokenizer=False)
    with pytest.raises(SkylineError, match=r"no tokenizer\.json and no vocab\.txt") as error:
        check_base_model(str(folder))
    assert str(folder) in one_line(error)
    monkeypatch.setattr(places, "package_folder", lambda: None)
    check_base_model("bert-tiny", needs_tokenizer=False)
    with pytest.raises(SkylineError, match=r"'tiny' has no tokenizer.*bert-skyline\[offline\]") as error:
        check_base_model("tiny")
    one_line(error)


def test_checking_built_in_names(minilm_folder: Path) -> None:
    for name in (*model_names(), *ALIASES):
        check_base_model(name)
        assert base_config(name).vocab_size == 30522


def test_first_configurations_without_a_type(folder: Path) -> None:
    expected = load_model(str(folder))
    change_config(model_type=..., layer_norm_eps=..., position_embedding_type=None)(folder)
    assert equal_weights(load_model(str(folder)), expected)


def test_a_folder_goes_before_a_built_in_name(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.rename(tmp_path / "bert-mini")
    monkeypatch.chdir(tmp_path)
    assert load_model("bert-mini").config.hidden_size == TINY.hidden_size
    assert origin_of("bert-mini").startswith("sha256:")


def test_a_folder_without_tokenizer(folder: Path) -> None:
    drop("tokenizer.json")(folder)
    model = load_model(str(folder))
    with pytest.raises(SkylineError, match="no tokenizer"):
        model.encode(["the bridge"])


def test_hub_checkpoints_of_either_format(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A repository that has only pytorch_model.bin, as old ones do, is no reason to fall back to random weights."""
    binary = tmp_path / "binary"
    binary.mkdir()
    (binary / "config.json").write_bytes((folder / "config.json").read_bytes())
    torch.save(load_file(folder / "model.safetensors"), binary / "pytorch_model.bin")

    def download(name: str, allow_patterns: list[str], local_files_only: bool) -> str:
        return str({"some/safe": folder, "some/binary": binary}[name])

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
    with pytest.raises(SkylineError, match="cannot be read"):
        Tokenizer.from_folder(tmp_path)
    (tmp_path / "vocab.txt").unlink()
    with pytest.raises(SkylineError, match=r"no tokenizer\.json and no vocab\.txt"):
        Tokenizer.from_folder(tmp_path)


def test_a_vocabulary_folder_loads(tiny: Encoder, folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    ids = load_model(str(folder)).encode(["the broken bridge"]).input_ids
    assert torch.equal(ids, tiny.encode(["the broken bridge"]).input_ids)


def test_compressed_models_are_not_saved_as_float32(tiny: Encoder, tmp_path: Path) -> None:
    from harness.kernels import Int8Linear, replace_linear

    weight = torch.ones(24, 24, dtype=torch.int8)
    replace_linear(tiny, "layers.0.attention_in.query", Int8Linear(weight, torch.ones(24), None))
    with pytest.raises(SkylineError, match="int8"):
        save_checkpoint(tiny, tmp_path / "no")
    assert list(tmp_path.iterdir()) == []


def test_random_model_is_bert_and_nothing_else_moves() -> None:
    """`random_weights` (these tests' helper) differs from the model it starts from in every parameter."""
    one, other = random_weights(TINY, 0), checkpoints.random_model(TINY, 0)
    moved = [not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True)]
    assert all(moved)


def test_conversion_both_ways_is_public(tiny: Encoder, tmp_path: Path) -> None:
    """`from harness import load_model, save_checkpoint`, without torch until one is used."""
    import harness

    assert {"load_model", "save_checkpoint"} <= set(harness.__all__)
    harness.save_checkpoint(tiny, tmp_path / "out")
    assert equal_weights(harness.load_model(str(tmp_path / "out")), tiny)


def test_every_public_name_stands_in_the_package() -> None:
    for name in checkpoints.__all__:
        assert getattr(checkpoints, name) is not None, name
