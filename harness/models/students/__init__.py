"""Students that are no Transformers: bags of words, recurrent nets, convolutions. Each has a configuration here and is
a `Model` like the encoder.
"""

from __future__ import annotations
