"""The three result versions. Raise one when the harness changes results: older records then become stale."""

from __future__ import annotations

TRAINING_VERSION = 3
"""Raise it when a change of training, encoder or codecs changes artifacts."""
EVALUATION_VERSION = 1
"""Raise it when a change of prediction, metrics or intervals changes scores."""
PROFILING_VERSION = 2
"""Raise it when a change of measurement changes profiles."""
