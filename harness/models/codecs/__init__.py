"""Codecs: how a weight tensor is stored. A codec is a pipeline of stages; each stage rewrites the values and may add
tensors that decoding needs.

`int8(channel)+bitmask` first quantizes the values to int8 with one scale a row, then stores one bit for each weight
and only the int8 values that are not zero. The file holds all that decoding needs: scales and masks are tensors like
any other. To add a stage, write a file here and list it in `pipeline.STAGES`.
"""

from harness.models.codecs.blocks import Blocks
from harness.models.codecs.codes import Codes
from harness.models.codecs.dictionary import Dictionary
from harness.models.codecs.floating import Cast
from harness.models.codecs.groups import Groups
from harness.models.codecs.integers import INT8_MAX, Int8
from harness.models.codecs.packing import Pack
from harness.models.codecs.pipeline import STAGES, Codec, Encoded
from harness.models.codecs.product import Product
from harness.models.codecs.sparse import Bitmask
from harness.models.codecs.stage import Stage
from harness.models.codecs.ternary import Ternary

__all__ = [
    "INT8_MAX",
    "STAGES",
    "Bitmask",
    "Blocks",
    "Cast",
    "Codec",
    "Codes",
    "Dictionary",
    "Encoded",
    "Groups",
    "Int8",
    "Pack",
    "Product",
    "Stage",
    "Ternary",
]
