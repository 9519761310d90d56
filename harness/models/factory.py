"""Make a model from its configuration: the elastic encoder, or one of the students."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Discriminator, Tag

from harness.common.errors import Code, SkylineError
from harness.models.config import EncoderConfig
from harness.models.encoder.encoder import Encoder
from harness.models.model import Model
from harness.models.students.bag import Mean
from harness.models.students.bottleneck import MobileBERT
from harness.models.students.bottleneck_config import BottleneckConfig
from harness.models.students.config import BagConfig, ConvolutionalConfig, RecurrentConfig, StudentConfig
from harness.models.students.convolutional import ConvolutionalStudent
from harness.models.students.recurrent import Recurrent
from harness.models.students.student import Student

if TYPE_CHECKING:
    from harness.models.tokenizer import Tokenizer

ENCODER = "encoder"


def _kind(config: Any) -> str:
    found = config.get("kind", ENCODER) if isinstance(config, dict) else getattr(config, "kind", ENCODER)
    return str(found)


ModelConfig = Annotated[
    Annotated[EncoderConfig, Tag(ENCODER)]
    | Annotated[BottleneckConfig, Tag("mobilebert")]
    | Annotated[BagConfig, Tag("bag")]
    | Annotated[RecurrentConfig, Tag("recurrent")]
    | Annotated[ConvolutionalConfig, Tag("convolutional")],
    Discriminator(_kind),
]
"""The configuration of any model. An encoder's has no `kind`, because it is older than the students."""


def make_model(
    config: EncoderConfig | BottleneckConfig | StudentConfig,
    tokenizer: Tokenizer | None = None,
    origin: str = "",
) -> Model:
    """Make a model of this configuration; its weights are not initialized."""
    if isinstance(config, BottleneckConfig):
        return MobileBERT(config, tokenizer, origin)
    if isinstance(config, BagConfig):
        return Student(config, Mean(), tokenizer, origin)
    if isinstance(config, RecurrentConfig):
        return Student(config, Recurrent(config), tokenizer, origin)
    if isinstance(config, ConvolutionalConfig):
        return ConvolutionalStudent(config, tokenizer, origin)
    if isinstance(config, StudentConfig):
        raise SkylineError(f"unknown kind of student '{config.kind}'; update Skyline", Code.UNKNOWN_NAME)
    return Encoder(config, tokenizer, origin)
