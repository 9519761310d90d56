"""Base models: the built-in names, and the conversion of Hugging Face `BertModel` checkpoints in both directions."""

from __future__ import annotations

from harness.models.checkpoints.base_models import (
    ALIASES,
    BASE_MODELS,
    base_config,
    base_tokenizer,
    check_base_model,
    load_language_model,
    load_model,
    model_names,
    origin_of,
)
from harness.models.checkpoints.exporting import save_checkpoint
from harness.models.checkpoints.importing import from_folder, random_model
from harness.models.checkpoints.names import hf_names
from harness.models.checkpoints.places import MINILM, MINILM_SHA256

__all__ = [
    "ALIASES",
    "BASE_MODELS",
    "MINILM",
    "MINILM_SHA256",
    "base_config",
    "base_tokenizer",
    "check_base_model",
    "from_folder",
    "hf_names",
    "load_language_model",
    "load_model",
    "model_names",
    "origin_of",
    "random_model",
    "save_checkpoint",
]
