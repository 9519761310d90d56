"""Import of Hugging Face folders: configuration, weights and tokenizer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.common.errors import Code, SkylineError
from harness.models.checkpoints.names import classifier_names, hf_names, language_model_names
from harness.models.checkpoints.weights import read_weights
from harness.models.config import EncoderConfig, Pooling
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.mlm_head import MaskedLanguageModelHead
from harness.models.initialization import nothing_drawn
from harness.models.tokenizer import Tokenizer

ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}


def random_model(config: EncoderConfig, seed: int, tokenizer: Tokenizer | None = None) -> Encoder:
    """Return an encoder, in evaluation mode, with weights drawn from `seed` by BERT's initialization."""
    generator = torch.Generator().manual_seed(seed)
    with nothing_drawn():
        model = Encoder(config, tokenizer, origin=f"random (seed {seed})")
    return model.initialize(generator).eval()


def from_folder(
    folder: Path,
    labels: int = 2,
    seed: int = 0,
    head: str = "classification",
    pooling: Pooling | None = None,
) -> Encoder:
    """Convert a local Hugging Face folder: config.json, model.safetensors (or pytorch_model.bin), and its tokenizer.

    `pooling` is, if None, the folder's own. See `load_model` for the other arguments and errors.
    """
    config = read_hf_config(folder, pooling).with_head(head, labels)
    weights, digest = read_weights(folder)
    model = random_model(config, seed, read_tokenizer(folder, config))
    model.origin = f"sha256:{digest}"
    return load_hf_weights(model, weights, folder)


def read_tokenizer(folder: Path, config: EncoderConfig) -> Tokenizer | None:
    """Load a checkpoint's tokenizer; None if it has none.

    Raises SkylineError if it is damaged, or has more tokens than the embedding has rows (CONFLICT).
    """
    if not ((folder / "tokenizer.json").is_file() or (folder / "vocab.txt").is_file()):
        return None
    tokenizer = Tokenizer.from_folder(folder)
    if tokenizer.vocab_size > config.vocab_size:
        raise SkylineError(
            f"{folder}: its tokenizer has {tokenizer.vocab_size} tokens, its embedding {config.vocab_size} rows; "
            "use matching files",
            Code.CONFLICT,
        )
    return tokenizer


def read_hf_config(folder: Path, pooling: Pooling | None = None) -> EncoderConfig:
    """Translate a folder's config.json. `pooling` is, if None, the folder's own (see `read_pooling`). Raises
    SkylineError unless it describes a BERT encoder.
    """
    path = folder / "config.json"
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise SkylineError(
            f"{folder} has no config.json; name a folder that a BERT was saved to", Code.NOT_FOUND
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise SkylineError(f"{path} is not JSON; copy the checkpoint again", Code.UNREADABLE) from None
    if not isinstance(data, dict):
        raise SkylineError(f"{path} is not a configuration; copy the checkpoint again", Code.WRONG_KIND)
    # The first configurations of BERT have no model_type.
    kind = data.get("model_type", "bert")
    odd = data.get("is_decoder") or (data.get("position_embedding_type") or "absolute") != "absolute"
    if kind != "bert" or odd:
        what = "is a decoder or has relative positions" if kind == "bert" else f"is of type '{kind}'"
        raise SkylineError(
            f"{path}: the checkpoint {what}; use an encoder of model_type 'bert' with absolute positions",
            Code.WRONG_KIND,
        )
    activation = ACTIVATIONS.get(str(data.get("hidden_act", "gelu")))
    if activation is None:
        raise SkylineError(
            f"{path}: activation '{data['hidden_act']}' is not supported; known: {', '.join(ACTIVATIONS)}",
            Code.UNKNOWN_NAME,
        )
    try:
        hidden, heads = data["hidden_size"], data["num_attention_heads"]
        if hidden % heads:
            raise SkylineError(
                f"{path}: {heads} heads do not divide the hidden size {hidden}; copy the checkpoint again",
                Code.DAMAGED,
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
            pooling=pooling or read_pooling(folder),
        )
    except KeyError as error:
        raise SkylineError(f"{path} has no {error}; copy the checkpoint again", Code.INCOMPLETE) from None
    except (TypeError, ValueError, ArithmeticError):
        raise SkylineError(
            f"{path} does not describe a valid encoder; copy the checkpoint again", Code.DAMAGED
        ) from None


def read_pooling(folder: Path) -> Pooling:
    """Read how a checkpoint pools: as the description of a sentence encoder beside it says, else from the first token.

    Raises SkylineError if the description cannot be read (UNREADABLE), or names another way (UNSUPPORTED).
    """
    path = folder / "1_Pooling" / "config.json"
    if not path.is_file():
        return "first-token"
    try:
        modes: Any = json.loads(path.read_text(encoding="utf-8"))
        chosen = {name for name, on in modes.items() if name.startswith("pooling_mode") and on is True}
    except (OSError, ValueError, AttributeError):
        raise SkylineError(f"{path} cannot be read; copy the checkpoint again", Code.UNREADABLE) from None
    known: dict[str, Pooling] = {
        "pooling_mode_cls_token": "first-token",
        "pooling_mode_mean_tokens": "mean",
    }
    if len(chosen) == 1 and (name := min(chosen)) in known:
        return known[name]
    raise SkylineError(
        f"{path}: the checkpoint pools by {', '.join(sorted(chosen)) or 'nothing'}; "
        "name it with @mean or @first-token behind it to choose one of these",
        Code.UNSUPPORTED,
    )


def load_hf_weights(model: Encoder, weights: Mapping[str, Tensor], folder: Path) -> Encoder:
    """Load a checkpoint's `weights` (by Hugging Face's names, any floating-point type) into an encoder of its shape.

    A pooler or head that the checkpoint does not have keeps its drawn weights, as does a pooler that reads the mean of
    the tokens: the checkpoint's was trained on the first. Errors name `folder`: SkylineError if a
    weight is missing (INCOMPLETE), of another shape (CONFLICT) or quantized (WRONG_KIND).
    """
    found = _by_name(weights)
    state = model.state_dict()
    for ours, theirs in hf_names(model.config).items():
        if theirs.startswith("pooler.") and (theirs not in found or model.config.pooling == "mean"):
            continue
        if theirs not in found:
            raise SkylineError(
                f"{folder}: weight '{theirs}' is missing; use a checkpoint of a complete BERT encoder",
                Code.INCOMPLETE,
            )
        if not found[theirs].is_floating_point():
            raise SkylineError(
                f"{folder}: weight '{theirs}' is of type {found[theirs].dtype}, not of a floating-point type; "
                "use the checkpoint before its quantization",
                Code.WRONG_KIND,
            )
        if found[theirs].shape != state[ours].shape:
            raise SkylineError(
                f"{folder}: weight '{theirs}' has shape {tuple(found[theirs].shape)}, "
                f"its config.json asks for {tuple(state[ours].shape)}; use matching files",
                Code.CONFLICT,
            )
        state[ours] = found[theirs].to(torch.float32)
    head = classifier_names(model.config)
    if head and all(
        theirs in found and found[theirs].shape == state[ours].shape for ours, theirs in head.items()
    ):
        state |= {ours: found[theirs].to(torch.float32) for ours, theirs in head.items()}
    model.load_state_dict(state)
    return model


def read_language_model(folder: Path) -> MaskedLanguageModelHead | None:
    """Load the head of a checkpoint's masked language model; None if it has no head of the encoder's size."""
    head = MaskedLanguageModelHead(read_hf_config(folder), torch.Generator())
    found, state = _by_name(read_weights(folder)[0]), head.state_dict()
    for ours, theirs in language_model_names().items():
        if theirs not in found or found[theirs].shape != state[ours].shape:
            return None
        state[ours] = found[theirs].to(torch.float32)
    head.load_state_dict(state)
    return head.eval()


def _by_name(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Old checkpoints keep TensorFlow's names gamma and beta for the weight and bias of a LayerNorm.
    return {
        name.removeprefix("bert.").replace(".gamma", ".weight").replace(".beta", ".bias"): tensor
        for name, tensor in weights.items()
    }
