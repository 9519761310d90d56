"""layer-drop: drops whole layers, then fine-tunes the rest."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness import Card, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.shape_checks import refuse_shared

with lazy_imports():
    import torch

    from harness.models import model as model_module
    from harness.models import surgery


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder

Strategy = Literal["top", "bottom", "alternate", "symmetric", "contribution"]


def layers_to_keep(available: int, dropped: int, strategy: str) -> list[int]:
    """Return the layers that stay, in order, counted from 0 at the bottom (Sajjad et al. 2020, section 3.1).

    top: drop the last layers; bottom: the first; symmetric: the middle ones (an odd one nearer the top); alternate:
    every other layer from the top (4 of 12: 5, 7, 9, 11), then the layers between, from the top.
    """
    if strategy == "top":
        gone = range(available - dropped, available)
    elif strategy == "bottom":
        gone = range(dropped)
    elif strategy == "symmetric":
        first = (available - dropped + 1) // 2
        gone = range(first, first + dropped)
    else:
        order = [*range(available - 1, -1, -2), *range(available - 2, -1, -2)]
        return sorted(order[dropped:])
    return [index for index in range(available) if index not in gone]


def contributions(model: Encoder, context: Context, batches: int = 16, size: int = 16) -> Tensor:
    """Return 1 − the mean cosine similarity of each layer's input and output, (L,), over the tokens of training batches
    (section 3.1, contribution-based).
    """
    total, tokens = torch.zeros(len(model.config.layers)), 0
    with torch.no_grad(), model_module.evaluating(model):
        for batch, _ in context.batches(model, size, batches, "layer-drop"):
            states = model(batch, hidden_states=True).hidden_states
            assert states is not None
            mask = batch.attention_mask.bool()
            for index, (before, after) in enumerate(pairwise(states)):  # each (b, n, H)
                total[index] += torch.nn.functional.cosine_similarity(before, after, dim=-1)[mask].sum().cpu()
            tokens += int(mask.sum())
    return 1 - total / tokens


class LayerDrop(Method):
    """Drops layers of the fine-tuned encoder by a fixed strategy, then fine-tunes the rest (Sajjad et al. 2020)."""

    card = Card(
        id="layer-drop",
        title="Layer dropping",
        family="structured-pruning",
        paper=Paper(
            title="Poor Man's BERT: Smaller and Faster Transformer Models",
            authors="Sajjad, Dalvi, Durrani, Nakov",
            year=2020,
            venue="arXiv",
            link="https://arxiv.org/abs/2004.03844",
        ),
        scope="task-specific",
        fidelity="variant",
        deviations=(
            "Layers are dropped from the fine-tuned encoder, not from the pre-trained one, and the rest is fine-tuned "
            "with the recipe's budget. The contribution strategy drops a given number of layers, those that change "
            "their input least on training data, instead of all above a threshold of similarity."
        ),
        touches=("attention_in", "attention", "attention_out", "ffn"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        notes="The paper's figures could not be read, so none is claimed.",
    )
    decides = frozenset({"the student"})

    @options
    class Options:
        """`drop`: number of layers to drop; `strategy`: how they are chosen (see `layers_to_keep`, `contributions`)."""

        drop: Annotated[int, Field(ge=1)] = 3
        strategy: Strategy = "top"

    suite = {"drop": (2, 1, 3), "strategy": ("top", "bottom", "alternate", "symmetric", "contribution")}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape of the layers that stay.

        Raises SkylineError: OUT_OF_RANGE if no layer would be left; WRONG_SHAPE if layers share weights.
        """
        refuse_shared(config, "some")
        available, dropped = len(config.layers), self.options.drop
        if dropped >= available:
            raise SkylineError(
                f"drop={dropped} leaves none of {available} layers; use {available - 1} or fewer",
                Code.OUT_OF_RANGE,
            )
        if self.options.strategy == "contribution":
            return config.with_layers(config.layers[: available - dropped])
        kept = layers_to_keep(available, dropped, self.options.strategy)
        return config.with_layers(tuple(config.layers[index] for index in kept))

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a copy with the layers that stay."""
        available = len(teacher.config.layers)
        if self.options.strategy == "contribution":
            order = contributions(teacher, context).argsort(stable=True).tolist()
            return surgery.keep_layers(teacher, sorted(order[self.options.drop :]))
        return surgery.keep_layers(
            teacher, layers_to_keep(available, self.options.drop, self.options.strategy)
        )
