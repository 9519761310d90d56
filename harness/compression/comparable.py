"""Checks, before any training, that a student can be compared with its teacher token by token and layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.common.errors import Code, SkylineError
from harness.models.attention_kinds import LinformerAttention
from harness.models.config import EncoderConfig
from harness.models.shape_checks import refuse_eliminated
from harness.models.students.bottleneck_config import BottleneckConfig
from harness.models.students.config import StudentConfig

if TYPE_CHECKING:
    from harness.compression.card import Need
    from harness.models.tokenizer import Tokenizer


Shape = EncoderConfig | StudentConfig | BottleneckConfig
"""The configuration of a model of any kind."""


@dataclass(frozen=True)
class Baseline:
    """The facts about a run's baseline, which is also its teacher, that are known before any training."""

    config: EncoderConfig
    tokenizer: Callable[[], Tokenizer | None]
    """Reads the tokenizer when called, because few methods need it."""
    texts: Callable[[], Iterable[str]] = tuple
    """Returns the task's training texts; empty if no task is known."""


def refuse_other_places(needs: frozenset[Need], config: Shape) -> None:
    """Raise SkylineError (`wrong-shape`) if distillation would compare hidden states or attention maps of tokens that
    the student of shape `config` has already dropped.
    """
    if not isinstance(config, EncoderConfig) or not needs & {"hidden_states", "attentions"}:
        return
    refuse_eliminated(config, "so they cannot be compared token by token; distil before they are")
    if "attentions" in needs and any(
        isinstance(layer.attention, LinformerAttention) for layer in config.layers
    ):
        raise SkylineError(
            "its attention is to fewer places than there are tokens, so it cannot be compared; distil first",
            Code.WRONG_SHAPE,
        )


def refuse_other_tokens(needs: frozenset[Need], spans: bool = False) -> None:
    """Raise SkylineError (`wrong-order`) if `needs` names outputs that belong to single tokens. Call it only if student
    and teacher have different tokenizers. With `spans`, logits belong to tokens too.
    """
    if odd := needs - {"teacher_logits"} or ({"spans"} if spans and needs else set()):
        raise SkylineError(
            f"it compares {min(odd).replace('_', ' ')} token by token, but its teacher reads other tokens; "
            "distil before the tokenizer is changed",
            Code.WRONG_ORDER,
        )
