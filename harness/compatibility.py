"""Which methods can follow each other: what a recipe is refused for before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.architectures import architecture
from harness.config import EncoderConfig, LinformerAttention
from harness.errors import SkylineError
from harness.refusals import refuse_eliminated
from harness.students.bottleneck_config import BottleneckConfig
from harness.students.config import StudentConfig

if TYPE_CHECKING:
    from harness.method import Method, Need
    from harness.recipe import Recipe
    from harness.tokenizer import Tokenizer

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


def shape_after(recipe: Recipe, model: str, baseline: Baseline) -> Shape:
    """The shape that a recipe makes of a base model, as far as it is known before training. Raises SkylineError
    where a method cannot work on what the methods before it leave, naming both.
    """
    config: Shape = baseline.config if recipe.start is None else architecture(recipe.start)
    before: list[str] = []
    for stage in recipe.stages:
        earlier = tuple(before)
        methods = [(call, call.make()) for call in stage.calls]
        for call, method in methods:
            try:
                if method.rewinds and (earlier or config != baseline.config):
                    raise SkylineError(
                        "it begins anew, so all that came before it would be lost; put it first"
                    )
                config = _shape_after_method(method, config, baseline)
            except SkylineError as error:
                after = f" after {' and '.join(before)}" if before else ""
                raise SkylineError(f"'{call.id}' cannot work on {model}{after}: {error}") from None
            before.append(f"'{call.id}'")
        for call, method in methods:
            try:
                refuse_other_places(method.needs, config)
            except SkylineError as error:
                raise SkylineError(
                    f"'{call.id}' cannot work beside {' and '.join(before)}: {error}"
                ) from None
    return config


def check_stage(methods: Sequence[Method], config: Shape, baseline: Baseline) -> None:
    """Raise SkylineError where the methods of a stage cannot work on what the stage before left."""
    for method in methods:
        config = _shape_after_method(method, config, baseline)
    for method in methods:
        refuse_other_places(method.needs, config)


def _shape_after_method(method: Method, config: Shape, baseline: Baseline) -> Shape:
    if not isinstance(config, EncoderConfig) and not method.takes_students:
        raise SkylineError(f"it works on encoders, not on a '{config.kind}' student; leave one of them out")
    if config.vocab_size != baseline.config.vocab_size:
        refuse_other_tokens(method.needs)
    method.check_against(config, baseline)
    left: Shape = method.check(config)
    refuse_other_places(method.needs, left)
    return left


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
