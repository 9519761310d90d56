"""Which layers a shallower student begins with, and which of its teacher's layers its own are compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness.common.errors import SkylineError
from harness.common.lazy import lazy_imports
from harness.compression.card import options
from harness.compression.comparable import refuse_other_tokens
from harness.compression.distillation.augmentation import AugmentationOptions, Augmenting
from harness.models.shape_checks import divisors, refuse_shared

with lazy_imports():
    from harness.models import surgery
    from harness.models.encoder import encoder


if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.models.config import EncoderConfig, LayerConfig
    from harness.models.model import Model

Choice = Literal["spread", "first", "last"]
LayerMap = Literal["skip", "last"]


def choose_layers(available: int, wanted: int, choice: Choice) -> list[int]:
    """Which of the teacher's layers the student starts from, in order.

    first: 0 … k−1 (Sun et al. 2019); last: the k topmost; spread: evenly, both ends included (0, 2, 4, 7, 9, 11 for 6
    of 12, DistilBERT's choice). Raises SkylineError where the student would be deeper than its teacher.
    """
    if wanted > available:
        raise SkylineError(
            f"layers={wanted} is more than the teacher's {available}; use {available} or fewer"
        )
    if choice == "first":
        return list(range(wanted))
    if choice == "last":
        return list(range(available - wanted, available))
    if wanted == 1:
        return [0]
    return [int(i * (available - 1) / (wanted - 1) + 0.5) for i in range(wanted)]


def map_layers(student: int, teacher: int, choice: LayerMap) -> list[int]:
    """The teacher's layer (from 0) that each of the student's is compared with.

    skip: layer m = 1 … k with layer m · M / k, so the last with the last (PKD-Skip, Sun et al. 2019, section 3.2; the
    uniform map of Jiao et al. 2020, section 4.1); last: with the k topmost (PKD-Last). Raises SkylineError where the
    student is deeper, and for `skip` where k does not divide M.
    """
    if student > teacher:
        raise SkylineError(f"layers={student} is more than the teacher's {teacher}; use {teacher} or fewer")
    if choice == "last":
        return list(range(teacher - student, teacher))
    if teacher % student:
        fitting = ", ".join(map(str, divisors(teacher)))
        raise SkylineError(
            f"layers={student} does not divide the teacher's {teacher}, so no even map of layers fits; "
            f"use one of {fitting}"
        )
    return [(place + 1) * (teacher // student) - 1 for place in range(student)]


def refuse_other_tokens_kept(config: EncoderConfig, teacher: EncoderConfig) -> None:
    """Raise SkylineError where both cannot be compared token by token: the student reads other tokens, or leaves some
    behind.
    """
    if config.vocab_size != teacher.vocab_size:
        refuse_other_tokens(frozenset({"hidden_states"}))
    if any(layer.kept is not None for layer in config.layers):
        raise SkylineError("its layers leave word-vectors behind, which its teacher's do not; distil first")


def refuse_other_states(config: EncoderConfig, teacher: EncoderConfig) -> None:
    """Raise SkylineError where hidden states of both cannot be compared: other tokens, or another hidden size."""
    refuse_other_tokens_kept(config, teacher)
    if config.hidden_size != teacher.hidden_size:
        raise SkylineError(
            f"its hidden states have {config.hidden_size} units and the teacher's {teacher.hidden_size}, so they "
            "cannot be compared; distil first, or use kd-logits"
        )


def refuse_other_maps(ours: LayerConfig, theirs: LayerConfig, place: int, other: int) -> None:
    """Raise SkylineError where the attention of the student's layer `place` cannot be compared with that of the
    teacher's layer `other`, head by head.
    """
    if not ours.heads or ours.heads != theirs.heads:
        raise SkylineError(
            f"layer {place} of the student has {ours.heads} heads and the teacher's layer {other} {theirs.heads}, so "
            "their attention cannot be compared; distil before heads are cut, or choose other layers"
        )
    if ours.attention != theirs.attention:
        raise SkylineError(
            f"layer {place} of the student attends in another way than the teacher's layer {other}; distil first"
        )


@options
class ShallowerOptions(AugmentationOptions):
    """`layers` of the student; `choose`, which of the teacher's it starts from."""

    layers: Annotated[int, Field(ge=1)] = 3
    choose: Choice = "spread"


class Shallower(Augmenting):
    """A method whose student is made of some of the layers of what came before, which is its teacher as a rule."""

    Options = ShallowerOptions
    decides = frozenset({"the student"})

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """The student must not be deeper than its teacher."""
        refuse_shared(config, "some")
        kept = choose_layers(len(config.layers), self.options.layers, self.options.choose)
        return config.with_layers(tuple(config.layers[index] for index in kept))

    def student(self, teacher: Model, context: Context) -> encoder.Encoder:
        """A copy of the chosen layers, with the teacher's embedding and head."""
        assert isinstance(teacher, encoder.Encoder)  # others are refused: it takes no students
        count = len(teacher.config.layers)
        return surgery.keep_layers(teacher, choose_layers(count, self.options.layers, self.options.choose))
