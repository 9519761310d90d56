"""Quantization in training."""
