"""Codecs as text: what is written reads back, what follows what, and what is no codec."""

from __future__ import annotations

import pytest

from harness.models.codecs import Bitmask, Blocks, Cast, Codec, Int8
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
    ("text", "says"),
    [
        ("int9", "did you mean 'int8'"),
        ("bitmaks", "did you mean 'bitmask'"),
        ("densee", "did you mean 'dense'"),
        ("", "known: bitmask, blocks, cast, codes, dense, dictionary, groups, int8, pack, product, ternary"),
        ("int8(", "known|did you mean 'int8'"),
        ("int8(row)", "unknown granularity of int8 'row'.*channel"),
        ("cast(float61)", "did you mean 'float16'"),
        ("bitmask(3)", "does not take the argument '3'"),
        ("bitmask+int8", "cannot follow"),
        ("int8+int8", "cannot follow"),
        ("cast+int8", "cannot follow"),
        ("blocks(0,4)", "out of range: use whole numbers from 1 on"),
        ("blocks(x,4)", "out of range"),
        ("block", "did you mean 'blocks'"),
        ("blocks(1,2,3)", "does not take the argument"),
        ("bitmask+blocks(1,4)", "cannot follow"),
        ("blocks(1,4)+int8", "cannot follow"),
        ("dictionary(3)+bitmask+pack(3)", "a dictionary has no code for zero, so no bitmask can follow it"),
        (
            "dictionary(3)+blocks(1,4)+pack(3)",
            "a dictionary has no code for zero, so no blocks can follow it",
        ),
        ("product(0)", "blocks of 1 to 64"),
        ("product(8,1)", "2 to 256 entries"),
        ("product(8,257)", "2 to 256 entries"),
        ("product(8,256,float17)", "did you mean 'float16'"),
        ("product+bitmask", "a product has no code for zero, so no bitmask can follow it"),
    ],
)
def test_what_is_no_codec(text: str, says: str) -> None:
    with refused(says):
        Codec.parse(text)


def test_with_stage_keeps_the_order() -> None:
    sparse = Codec().with_stage(Bitmask())
    assert str(sparse) == "bitmask"
    assert str(sparse.with_stage(Int8("tensor"))) == "int8(tensor)+bitmask"
    assert str(sparse.with_stage(Int8()).with_stage(Cast("bfloat16"))) == "cast(bfloat16)+bitmask"
    assert str(sparse.with_stage(Bitmask())) == "bitmask"


def test_a_bitmask_and_blocks_take_each_other_s_place() -> None:
    codec = Codec.parse("int8(channel)+bitmask").with_stage(Blocks(1, 4))
    assert str(codec) == "int8(channel)+blocks(1,4)"
