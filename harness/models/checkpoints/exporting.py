"""Export of encoders to Hugging Face folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from harness.common.errors import Code, SkylineError
from harness.common.files import new_folder
from harness.models.checkpoints.names import classifier_names, hf_names
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.models.int8_linear import require_dense

TO_ACTIVATION = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}


def hf_config(config: EncoderConfig) -> dict[str, Any]:
    """Return the Hugging Face config.json of a uniform encoder.

    Raises SkylineError (WRONG_SHAPE) if `transformers.BertModel` cannot express the encoder.
    """
    first = config.layers[0]
    plain = first.projection_size == config.hidden_size and first.ffn_size and not first.ranks
    if not plain or config.embedding_rank is not None or any(layer != first for layer in config.layers):
        raise _inexpressible("layers that differ, are factorized or share weights")
    if config.words is not None:
        raise _inexpressible(
            "word embeddings of codes or hashes; export the encoder before they are replaced"
        )
    if first.attention is not None or first.kept is not None or config.segment_positions is not None:
        raise _inexpressible("attention other than full attention, or eliminated word-vectors")
    if not config.pooler and config.head.kind in ("classification", "regression"):
        raise _inexpressible(f"a {config.head.kind} head without a pooler")
    if config.pooling == "mean" and config.head.kind != "span":
        raise _inexpressible("a head that reads the mean of the tokens")
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


def _inexpressible(part: str) -> SkylineError:
    return SkylineError(f"transformers' BERT cannot express {part}", Code.WRONG_SHAPE)


def save_checkpoint(model: Encoder, folder: Path) -> None:
    """Write a folder that `transformers` loads.

    Raises SkylineError if the folder exists (EXISTS), `BertModel` cannot express the encoder (WRONG_SHAPE), or the
    encoder executes on compressed weights.
    """
    require_dense(model)
    config = hf_config(model.config)
    prefix = "" if model.config.head.kind == "none" else "bert."
    state = model.state_dict()
    tensors = {
        prefix + theirs: state[ours] for ours, theirs in hf_names(model.config).items() if ours in state
    }
    tensors |= {theirs: state[ours] for ours, theirs in classifier_names(model.config).items()}
    with new_folder(folder) as temporary:
        weights = {name: tensor.contiguous() for name, tensor in tensors.items()}
        save_file(weights, temporary / "model.safetensors", {"format": "pt"})
        (temporary / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        if model.tokenizer is not None:
            (temporary / "tokenizer.json").write_text(model.tokenizer.to_json(), encoding="utf-8")
