"""Base models: Hugging Face `BertModel`-style checkpoints in and out, and the built-in names."""

from __future__ import annotations

from harness.common.hub import hub_answers
from harness.models.checkpoints.base_models import (
    ALIASES,
    BASE_MODELS,
    BaseModel,
    base_config,
    base_folder,
    base_tokenizer,
    check_base_model,
    load_language_model,
    load_model,
    model_names,
    origin_of,
)
from harness.models.checkpoints.exporting import hf_config, save_checkpoint
from harness.models.checkpoints.importing import ACTIVATIONS, from_folder, random_model, read_hf_config
from harness.models.checkpoints.names import hf_names
from harness.models.checkpoints.places import MINILM, MINILM_SHA256
from harness.models.checkpoints.weights import WEIGHT_FILES

__all__ = [
    "ACTIVATIONS",
    "ALIASES",
    "BASE_MODELS",
    "MINILM",
    "MINILM_SHA256",
    "WEIGHT_FILES",
    "BaseModel",
    "base_config",
    "base_folder",
    "base_tokenizer",
    "check_base_model",
    "from_folder",
    "hf_config",
    "hf_names",
    "hub_answers",
    "load_language_model",
    "load_model",
    "model_names",
    "origin_of",
    "random_model",
    "read_hf_config",
    "save_checkpoint",
]
