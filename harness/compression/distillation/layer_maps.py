"""Layer maps: the teacher's layers that a shallower student is initialized with, and those that its layers are compared
with in a loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness.common.errors import Code, SkylineError
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
    """Return the indices of the teacher's layers that a student of `wanted` layers is initialized with, in order.

    first: 0 … k−1 (Sun et al. 2019). last: the k topmost. spread: evenly, both ends included (0, 2, 4, 7, 9, 11 for 6
    of 12, as in DistilBERT). Raises SkylineError (`out-of-range`) if the student would be deeper than its teacher.
    """
    if wanted > available:
        raise _too_deep(wanted, available)
    if choice == "first":
        return list(range(wanted))
    if choice == "last":
        return list(range(available - wanted, available))
    if wanted == 1:
        return [0]
    return [int(i * (available - 1) / (wanted - 1) + 0.5) for i in range(wanted)]


def map_layers(student: int, teacher: int, choice: LayerMap) -> list[int]:
    """Return, for each of the student's k layers, the index (from 0) of the teacher's layer that it is compared with.

    skip: layer m = 1 … k with layer m · M / k of M, so the last with the last (PKD-Skip, Sun et al. 2019, section 3.2;
    the uniform map of Jiao et al. 2020, section 4.1). last: with the k topmost layers (PKD-Last). Raises SkylineError
    (`out-of-range`) if the student is deeper, and for `skip` if k does not divide M.
    """
    if student > teacher:
        raise _too_deep(student, teacher)
    if choice == "last":
        return list(range(teacher - student, teacher))
    if teacher % student:
        fitting = ", ".join(map(str, divisors(teacher)))
        raise SkylineError(
            f"layers={student} does not divide the teacher's {teacher}, so no even map of layers fits; "
            f"use one of {fitting}",
            Code.OUT_OF_RANGE,
        )
    return [(place + 1) * (teacher // student) - 1 for place in range(student)]


def _too_deep(student: int, teacher: int) -> SkylineError:
    return SkylineError(
        f"layers={student} is more than the teacher's {teacher}; use {teacher} or fewer", Code.OUT_OF_RANGE
    )


def refuse_other_tokens_kept(config: EncoderConfig, teacher: EncoderConfig) -> None:
    """Raise SkylineError if student and teacher cannot be compared token by token: the student has another vocabulary
    (`wrong-order`), or drops tokens between its layers (`wrong-shape`).
    """
    if config.vocab_size != teacher.vocab_size:
        refuse_other_tokens(frozenset({"hidden_states"}))
    if any(layer.kept is not None for layer in config.layers):
        raise SkylineError(
            "its layers leave word-vectors behind, which its teacher's do not; distil first", Code.WRONG_SHAPE
        )


def refuse_other_states(config: EncoderConfig, teacher: EncoderConfig) -> None:
    """Raise SkylineError if hidden states cannot be compared: as `refuse_other_tokens_kept` does, or because the hidden
    sizes differ (`wrong-shape`).
    """
    refuse_other_tokens_kept(config, teacher)
    if config.hidden_size != teacher.hidden_size:
        raise SkylineError(
            f"its hidden states have {config.hidden_size} units and the teacher's {teacher.hidden_size}, so they "
            "cannot be compared; distil first, or use kd-logits",
            Code.WRONG_SHAPE,
        )


def refuse_other_maps(ours: LayerConfig, theirs: LayerConfig, place: int, other: int) -> None:
    """Raise SkylineError (`wrong-shape`) if the attention of the student's layer `place` and of the teacher's layer
    `other` (indices from 0) cannot be compared head by head.
    """
    if not ours.heads or ours.heads != theirs.heads:
        raise SkylineError(
            f"layer {place} of the student has {ours.heads} heads and the teacher's layer {other} {theirs.heads}, so "
            "their attention cannot be compared; distil before heads are cut, or choose other layers",
            Code.WRONG_SHAPE,
        )
    if ours.attention != theirs.attention:
        raise SkylineError(
            f"layer {place} of the student attends in another way than the teacher's layer {other}; distil first",
            Code.WRONG_SHAPE,
        )


@options
class ShallowerOptions(AugmentationOptions):
    """`layers`: the student's number of layers. `choose`: the teacher's layers that it is initialized with."""

    layers: Annotated[int, Field(ge=1)] = 3
    choose: Choice = "spread"


class Shallower(Augmenting):
    """A method whose student consists of some layers of the previous stage's encoder, which is usually the teacher."""

    Options = ShallowerOptions
    decides = frozenset({"the student"})

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape with the chosen layers. Raises SkylineError (`out-of-range`) if there are not enough, and
        (`wrong-shape`) if layers share weights.
        """
        refuse_shared(config, "some")
        kept = choose_layers(len(config.layers), self.options.layers, self.options.choose)
        return config.with_layers(tuple(config.layers[index] for index in kept))

    def student(self, teacher: Model, context: Context) -> encoder.Encoder:
        """Return a copy of the chosen layers with the embedding and the head."""
        assert isinstance(teacher, encoder.Encoder)  # others are refused, because `takes_students` is False
        count = len(teacher.config.layers)
        return surgery.keep_layers(teacher, choose_layers(count, self.options.layers, self.options.choose))
