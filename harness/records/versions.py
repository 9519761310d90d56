"""The three result versions. Raise one when a change of the harness changes results; records made before then count as
stale.
"""

from __future__ import annotations

TRAINING_VERSION = 2
"""Raise it when a change of the loop, the encoder or the codecs changes what training produces."""
EVALUATION_VERSION = 1
"""Raise it when a change of prediction, metrics or intervals changes a record's quality."""
PROFILING_VERSION = 1
"""Raise it when a change of the measuring changes a record's profile."""
