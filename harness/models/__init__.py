"""Encoders and students: configurations, modules, tokenizers, artifacts, surgery."""
