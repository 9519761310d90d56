"""Encoders and students: their configurations, modules, tokenizers, artifacts and surgery."""
