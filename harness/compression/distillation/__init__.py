"""Losses, layer maps, students and augmented examples of distillation."""
