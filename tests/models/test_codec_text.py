"""The text form of codecs: reading and writing, the order of stages, and text that is refused."""

from __future__ import annotations

import pytest

from harness.common.errors import Code
from harness.models.codecs import STAGES, Bitmask, Blocks, Cast, Codec, Int8
from tests.support.codec_checks import CODECS
from tests.support.one_line_errors import refused


@pytest.mark.parametrize(
    "text",
    [
        *CODECS,
        "blocks(1,32)",
        "blocks(16,1)",
        "int8(channel)+blocks(1,32)",
        "groups(4,2)+blocks(8,8)+pack(4)",
        "product(4,16,float32)+pack(4)",
    ],
)
def test_parse_and_str(text: str) -> None:
    codec = Codec.parse(text)
    assert str(codec) == text
    assert Codec.parse(str(codec)) == codec


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("int8", "int8(channel)"),
        ("cast + bitmask", "cast(float16)+bitmask"),
        ("product", "product(8,256,float16)"),
    ],
)
def test_parse_defaults(text: str, canonical: str) -> None:
    assert str(Codec.parse(text)) == canonical


@pytest.mark.parametrize(
    ("text", "code", "names"),
    [
        ("int9", Code.UNKNOWN_NAME, ["int9", "'int8'"]),
        ("bitmaks", Code.UNKNOWN_NAME, ["'bitmask'"]),
        ("densee", Code.UNKNOWN_NAME, ["'dense'"]),
        ("", Code.UNKNOWN_NAME, [*STAGES, "dense"]),
        ("int8(", Code.UNKNOWN_NAME, ["int8("]),
        ("int8(row)", Code.UNKNOWN_NAME, ["int8", "'row'", "channel"]),
        ("int8(3)", Code.UNKNOWN_NAME, ["int8", "'3'"]),
        ("cast(float61)", Code.UNKNOWN_NAME, ["float61", "'float16'"]),
        ("product(8,256,float17)", Code.UNKNOWN_NAME, ["float17", "'float16'"]),
        ("dictionary(3,some)", Code.UNKNOWN_NAME, ["outliers", "'some'"]),
        ("block", Code.UNKNOWN_NAME, ["'blocks'"]),
        ("bitmask(3)", Code.OUT_OF_RANGE, ["bitmask", "'3'"]),
        ("blocks(0,4)", Code.OUT_OF_RANGE, ["blocks(0,4)"]),
        ("blocks(x,4)", Code.OUT_OF_RANGE, ["blocks", "'x,4'"]),
        ("blocks(1,2,3)", Code.OUT_OF_RANGE, ["blocks", "'1,2,3'"]),
        ("pack(9)", Code.OUT_OF_RANGE, ["pack(9)", "1 to 8"]),
        ("dictionary(0)", Code.OUT_OF_RANGE, ["dictionary(0,kept)", "1 to 8"]),
        ("groups(1,2)", Code.OUT_OF_RANGE, ["groups(1,2)", "2 to 8"]),
        ("groups(4,0)", Code.OUT_OF_RANGE, ["groups(4,0)", "at least 1"]),
        ("product(0)", Code.OUT_OF_RANGE, ["product(0,", "1 to 64"]),
        ("product(8,1)", Code.OUT_OF_RANGE, ["product(8,1,", "2 to 256"]),
        ("product(8,257)", Code.OUT_OF_RANGE, ["product(8,257,", "2 to 256"]),
        ("bitmask+int8", Code.WRONG_ORDER, ["bitmask+int8"]),
        ("int8+int8", Code.WRONG_ORDER, ["int8+int8"]),
        ("cast+int8", Code.WRONG_ORDER, ["cast+int8"]),
        ("bitmask+blocks(1,4)", Code.WRONG_ORDER, ["bitmask+blocks(1,4)"]),
        ("blocks(1,4)+int8", Code.WRONG_ORDER, ["blocks(1,4)+int8"]),
        ("dictionary(3)+bitmask+pack(3)", Code.CONFLICT, ["dictionary", "bitmask"]),
        ("dictionary(3)+blocks(1,4)+pack(3)", Code.CONFLICT, ["dictionary", "blocks"]),
        ("product+bitmask", Code.CONFLICT, ["product", "bitmask"]),
    ],
)
def test_text_that_is_not_a_codec(text: str, code: Code, names: list[str]) -> None:
    with refused(code, *names):
        Codec.parse(text)


def test_with_stage_keeps_the_order() -> None:
    sparse = Codec().with_stage(Bitmask())
    assert str(sparse) == "bitmask"
    assert str(sparse.with_stage(Int8("tensor"))) == "int8(tensor)+bitmask"
    assert str(sparse.with_stage(Int8()).with_stage(Cast("bfloat16"))) == "cast(bfloat16)+bitmask"
    assert str(sparse.with_stage(Bitmask())) == "bitmask"


def test_blocks_replace_a_bitmask() -> None:
    codec = Codec.parse("int8(channel)+bitmask").with_stage(Blocks(1, 4))
    assert str(codec) == "int8(channel)+blocks(1,4)"
