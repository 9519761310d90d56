"""Which methods can follow each other: what a recipe is refused for before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.common.errors import Code, SkylineError
from harness.models.architectures import architecture
from harness.models.config import EncoderConfig

if TYPE_CHECKING:
    from harness.compression.method import Method
    from harness.recipes.recipe import Recipe
from harness.compression.comparable import Baseline, Shape, refuse_other_places, refuse_other_tokens


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
    """Raise SkylineError where the methods of a stage cannot work on what the stage before left."""
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
