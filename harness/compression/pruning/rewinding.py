"""Back to the pre-trained weights: what methods share that compress before the baseline's fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.common.errors import SkylineError
from harness.common.lazy import lazy_imports

with lazy_imports():
    import torch

    from harness.models import parametrization


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context
    from harness.models.model import Model


def rewind(student: Model, context: Context, who: str) -> dict[str, Tensor]:
    """Give every trained weight of `student`, its head's too, the value that it had before the baseline's
    fine-tuning (Frankle & Carbin 2019: θ₀), and return copies of these, by name.

    Raises SkylineError where the student is not the baseline as it was fine-tuned: what other methods made of it
    would be lost.
    """
    start = {name: weight.detach() for name, weight in context.pretrained().named_parameters()}
    teacher = dict(context.teacher.named_parameters())
    try:
        own = parametrization.trained_weights(student, start)
    except SkylineError:
        raise SkylineError(_message(who, "another method changed the encoder's shape")) from None
    for name, weight in own.items():
        if weight.shape != start[name].shape:
            raise SkylineError(_message(who, "another method changed the encoder's shape"))
        if name not in teacher or not weight.equal(teacher[name].to(weight.device)):
            raise SkylineError(_message(who, "another method changed the encoder's weights"))
    restore(student, start)
    return start


def restore(student: Model, start: Mapping[str, Tensor]) -> None:
    """Give the trained weights of `student` the values in `start`, by name."""
    with torch.no_grad():
        for name, weight in parametrization.trained_weights(student, start).items():
            weight.copy_(start[name])


def _message(who: str, why: str) -> str:
    return f"{who} begins anew with the pre-trained weights, but {why} before it; put it first"
