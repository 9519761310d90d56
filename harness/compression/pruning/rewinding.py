"""Restore the pre-trained weights, for methods that compress before fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from harness.common.errors import Code, SkylineError
from harness.common.lazy import lazy_imports

with lazy_imports():
    import torch

    from harness.models import parametrization


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context
    from harness.models.model import Model


def rewind(student: Model, context: Context, who: str) -> dict[str, Tensor]:
    """Give every trained weight of `student`, also of its head, the value that it had before the baseline's
    fine-tuning (θ₀ in Frankle & Carbin 2019). Return these values by parameter name.

    `who` names the method or option in the error. Raises SkylineError (`wrong-order`) if the student is not the
    fine-tuned baseline, because the work of other methods would be lost.
    """
    start = {name: weight.detach() for name, weight in context.pretrained().named_parameters()}
    teacher = dict(context.teacher.named_parameters())
    try:
        own = parametrization.trained_weights(student, start)
    except SkylineError:
        raise _too_late(who, "another method changed the encoder's shape") from None
    for name, weight in own.items():
        if weight.shape != start[name].shape:
            raise _too_late(who, "another method changed the encoder's shape")
        if name not in teacher or not weight.equal(teacher[name].to(weight.device)):
            raise _too_late(who, "another method changed the encoder's weights")
    restore(student, start)
    return start


def restore(student: Model, start: Mapping[str, Tensor]) -> None:
    """Copy the values in `start`, by parameter name, into the trained weights of `student`."""
    with torch.no_grad():
        for name, weight in parametrization.trained_weights(student, start).items():
            weight.copy_(start[name])


def _too_late(who: str, why: str) -> SkylineError:
    return SkylineError(
        f"{who} begins anew with the pre-trained weights, but {why} before it; put it first", Code.WRONG_ORDER
    )
