"""layerdrop-training: skips layers at random in training, so that some can be dropped afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import Field

from harness import Card, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.shape_checks import refuse_eliminated, refuse_shared

with lazy_imports():
    import torch

    from harness.models import batch, surgery


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder


def every_other(available: int, keep_every: int) -> list[int]:
    """Return layers 0, k, 2k, … with k = `keep_every` (Fan et al. 2020, section 3.2, 'every other')."""
    return list(range(0, available, keep_every))


class LayerDropTraining(Method):
    """LayerDrop (Fan et al. 2020): training skips each layer with probability p; then every k-th layer is kept."""

    card = Card(
        id="layerdrop-training",
        title="LayerDrop training",
        family="structured-pruning",
        paper=Paper(
            title="Reducing Transformer Depth on Demand with Structured Dropout",
            authors="Fan, Grave, Joulin",
            year=2020,
            venue="ICLR",
            link="https://arxiv.org/abs/1909.11556",
        ),
        scope="task-agnostic",
        fidelity="variant",
        deviations=(
            "The paper pre-trains with LayerDrop; here it acts in fine-tuning only, which did not give great "
            "performance according to its authors. A layer is skipped for a whole batch."
        ),
        touches=("attention_in", "attention", "attention_out", "ffn"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        notes="The published figures are for RoBERTa, so none is claimed.",
    )
    decides = frozenset({"the student's layers"})

    @options
    class Options:
        """`probability` p of skipping a layer in a training step; `keep_every` k: every k-th layer is kept."""

        probability: Annotated[float, Field(ge=0, lt=1)] = 0.2
        keep_every: Annotated[int, Field(ge=2)] = 2

    suite = {"probability": (0.2, 0.5), "keep_every": (2, 3)}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape of every k-th layer.

        Raises SkylineError (WRONG_SHAPE) if there is only one layer, if layers share weights, or if word-vectors are
        eliminated.
        """
        refuse_shared(config, "some")
        refuse_eliminated(config, "so none can be left out of a batch; train so before")
        if len(config.layers) < 2:
            raise SkylineError(
                "an encoder of one layer has none to leave out; take a deeper one", Code.WRONG_SHAPE
            )
        kept = every_other(len(config.layers), self.options.keep_every)
        return config.with_layers(tuple(config.layers[index] for index in kept))

    def prepare(self, student: Encoder, context: Context) -> None:
        """Wrap the layers so that training skips them."""
        generator = context.generator("layerdrop-training")
        skippable = _skippable()
        for index, layer in enumerate(student.layers):
            student.layers[index] = skippable(layer, self.options.probability, generator)

    def finish(self, student: Encoder, context: Context) -> Encoder:
        """Unwrap the layers, and return a copy with every k-th layer."""
        for index, layer in enumerate(student.layers):
            student.layers[index] = cast(Any, layer).layer
        return surgery.keep_layers(student, every_other(len(student.config.layers), self.options.keep_every))


def _skippable() -> type[torch.nn.Module]:
    """Return the class of a skippable layer. It is made in a function because this file is imported without torch."""

    class Skippable(torch.nn.Module):
        """A layer that training skips with a probability."""

        def __init__(self, layer: torch.nn.Module, probability: float, generator: torch.Generator) -> None:
            super().__init__()
            self.layer, self.probability, self.generator = layer, probability, generator

        def forward(
            self, x: Tensor, mask: Tensor, maps: bool = False
        ) -> tuple[Tensor, batch.AttentionMap | None]:
            """Map states (b, n, H) as the layer does; a skipped layer returns its input."""
            if self.training and float(torch.rand((), generator=self.generator)) < self.probability:
                nothing = x.new_zeros(x.shape[0], 0, x.shape[1], x.shape[1])  # (b, 0 heads, n, n)
                return x, batch.AttentionMap(nothing, nothing) if maps else None
            return cast("tuple[Tensor, batch.AttentionMap | None]", self.layer(x, mask, maps))

    return Skippable
