"""What a student can be compared with its teacher in, known before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.common.errors import SkylineError
from harness.models.config import EncoderConfig, LinformerAttention
from harness.models.shape_checks import refuse_eliminated
from harness.models.students.bottleneck_config import BottleneckConfig
from harness.models.students.config import StudentConfig

if TYPE_CHECKING:
    from harness.compression.card import Need
    from harness.models.tokenizer import Tokenizer


Shape = EncoderConfig | StudentConfig | BottleneckConfig
"""What a model of any kind looks like."""


@dataclass(frozen=True)
class Baseline:
    """What is known of a run's baseline, which is its teacher, before anything is trained."""

    config: EncoderConfig
    tokenizer: Callable[[], Tokenizer | None]
    """Reads it; few methods ask."""
    texts: Callable[[], Iterable[str]] = tuple
    """The task's training texts; none where no task is known."""


def refuse_other_places(needs: frozenset[Need], config: Shape) -> None:
    """Raise SkylineError where what is compared with the teacher layer by layer belongs to tokens that the student's
    layers have no longer.
    """
    if not isinstance(config, EncoderConfig) or not needs & {"hidden_states", "attentions"}:
        return
    refuse_eliminated(config, "so they cannot be compared token by token; distil before they are")
    if "attentions" in needs and any(
        isinstance(layer.attention, LinformerAttention) for layer in config.layers
    ):
        raise SkylineError(
            "its attention is to fewer places than there are tokens, so it cannot be compared; distil first"
        )


def refuse_other_tokens(needs: frozenset[Need], spans: bool = False) -> None:
    """Raise SkylineError where what is read of the teacher belongs to tokens (its logits too, of `spans`), but the
    student reads other tokens than its teacher.
    """
    if odd := needs - {"teacher_logits"} or ({"spans"} if spans and needs else set()):
        raise SkylineError(
            f"it compares {min(odd).replace('_', ' ')} token by token, but its teacher reads other tokens; "
            "distil before the tokenizer is changed"
        )
