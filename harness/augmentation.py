"""Augmentation: more training texts made of a task's own, labelled by the teacher (Jiao et al. 2020, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from harness.method import Method, options

if TYPE_CHECKING:
    from harness.training import Augmented, Context


@options
class AugmentationOptions:
    """`augment`: so many texts are made of each training example."""

    augment: Annotated[int, Field(ge=0, le=100)] = 0


class Augmenting(Method):
    """A method whose options say how much is augmented: every distillation is one."""

    Options = AugmentationOptions

    def examples(self, context: Context) -> Sequence[Augmented]:
        """What `augment` asks for."""
        if not self.options.augment:
            return ()
        raise NotImplementedError
