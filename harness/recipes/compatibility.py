"""Check, before any training, that the methods of a recipe can follow each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.common.errors import Code, SkylineError
from harness.compression.comparable import Baseline, Shape, refuse_other_places, refuse_other_tokens
from harness.models.architectures import architecture
from harness.models.config import EncoderConfig

if TYPE_CHECKING:
    from harness.compression.method import Method
    from harness.recipes.recipe import Recipe


def shape_after(recipe: Recipe, model: str, baseline: Baseline) -> Shape:
    """Return the shape that a recipe makes of the base model named `model`, as far as it is known before training.

    Raises SkylineError if a method cannot work on the shape that the methods before it leave. The message names both;
    the code is that of the method's own refusal.
    """
    config: Shape = baseline.config if recipe.start is None else architecture(recipe.start)
    before: list[str] = []
    for stage in recipe.stages:
        earlier = tuple(before)
        methods = [(call, call.make()) for call in stage.calls]
        for call, method in methods:
            try:
                if method.restarts_from_pretrained and (earlier or config != baseline.config):
                    raise SkylineError(
                        "it begins anew, so all that came before it would be lost; put it first",
                        Code.WRONG_ORDER,
                    )
                config = _shape_after_method(method, config, baseline)
            except SkylineError as error:
                after = f" after {' and '.join(before)}" if before else ""
                raise SkylineError(
                    f"'{call.id}' cannot work on {model}{after}: {error}", error.code
                ) from None
            before.append(f"'{call.id}'")
        for call, method in methods:
            try:
                refuse_other_places(method.needs, config)
            except SkylineError as error:
                raise SkylineError(
                    f"'{call.id}' cannot work beside {' and '.join(before)}: {error}", error.code
                ) from None
    return config


def check_stage(methods: Sequence[Method], config: Shape, baseline: Baseline) -> None:
    """Raise SkylineError if the methods of a stage cannot work on the shape `config` that the previous stage left."""
    for method in methods:
        config = _shape_after_method(method, config, baseline)
    for method in methods:
        refuse_other_places(method.needs, config)


def _shape_after_method(method: Method, config: Shape, baseline: Baseline) -> Shape:
    if not isinstance(config, EncoderConfig) and not method.takes_students:
        raise SkylineError(
            f"it works on encoders, not on a '{config.kind}' student; leave one of them out",
            Code.WRONG_SHAPE,
        )
    if config.vocab_size != baseline.config.vocab_size:
        refuse_other_tokens(method.needs)
    method.check_against(config, baseline)
    left: Shape = method.final_shape_from(config)
    refuse_other_places(method.needs, left)
    return left
