"""lightpaff: a student with fewer and narrower layers learns the teacher's output distribution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, cast

from pydantic import Field

from harness import Card, Claim, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.compression.distillation.layer_maps import Shallower, ShallowerOptions
from harness.models.config import MATRICES, EncoderConfig
from harness.models.shape_checks import refuse_factorized, refuse_wide_ramps

with lazy_imports():
    import torch

    from harness.compression.distillation import losses
    from harness.compression.pruning import reconstruction
    from harness.models import surgery


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context, Step
    from harness.compression.pruning.reconstruction import Moments
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder


def narrower(config: EncoderConfig, width: float) -> EncoderConfig:
    """Return `config` with a share `width` of its hidden units and of each layer's heads and FFN columns, rounded, at
    least 1 of a number above 0. BERT-base at two thirds: 512, 8 and 2048.

    Raises SkylineError (OUT_OF_RANGE) if the hidden size would not be above the word embeddings' rank.
    """

    def share(count: int) -> int:
        return max(1, round(width * count)) if count else 0

    layers = tuple(
        layer.model_copy(update={"heads": share(layer.heads), "ffn_size": share(layer.ffn_size)})
        for layer in config.layers
    )
    hidden = share(config.hidden_size)
    rank = config.embedding_rank if config.embedding_rank and config.embedding_rank < hidden else None
    if config.embedding_rank and rank is None:
        raise SkylineError(
            f"width={width:g} leaves {hidden} hidden units, not more than the word embeddings' rank "
            f"{config.embedding_rank}; use a larger one",
            Code.OUT_OF_RANGE,
        )
    return EncoderConfig.model_validate({**config.model_dump(), "hidden_size": hidden, "layers": layers})


def narrow(model: Encoder, config: EncoderConfig, moments: Mapping[str, Moments]) -> Encoder:
    """Return `model` cut to the sizes of `config`: the hidden units that reconstruct the others best, and the heads and
    FFN columns that contribute most.

    Maps that read cut units read their least-squares reconstruction from the kept ones. `model` is changed.
    """
    units = reconstruction.hidden_units(moments, config.hidden_size)

    def strongest(path: str, count: int, size: int = 1) -> list[int]:
        weight = model.get_submodule(path).get_parameter("weight")
        return reconstruction.strongest_groups(moments[path].covariance, weight, count, size)

    heads, columns = list[list[int]](), list[list[int]]()
    kept: dict[str, list[int]] = {}
    for index, layer in enumerate(config.layers):
        out, last = f"layers.{index}.attention_out.dense", f"layers.{index}.ffn.out"
        heads.append(strongest(out, layer.heads, layer.head_size) if layer.heads else [])
        columns.append(strongest(last, layer.ffn_size) if layer.ffn_size else [])
        kept[out] = [head * layer.head_size + place for head in heads[-1] for place in range(layer.head_size)]
        kept[last] = columns[-1]
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and not path.endswith(".project"):
            read = moments[path.replace(".key", ".query").replace(".value", ".query")]
            reconstruction.read_from(cast(torch.nn.Linear, module), read, kept.get(path, units))
    return surgery.keep_hidden(surgery.keep_columns(surgery.keep_heads(model, heads), columns), units)


class LightPAFF(Shallower):
    """LightPAFF's fine-tuning: L = (1 − λ) · task loss + λ · KL(teacher ‖ student) (Song et al. 2020, section 3)."""

    card = Card(
        id="lightpaff",
        title="LightPAFF (fine-tuning stage)",
        family="distillation",
        paper=Paper(
            title="LightPAFF: A Two-Stage Distillation Framework for Pre-training and Fine-tuning",
            authors="Song, Sun, Tan, Qin, Lu, Liu, Liu",
            year=2020,
            venue="arXiv",
            link="https://arxiv.org/abs/2004.12817",
        ),
        scope="task-agnostic",
        fidelity="variant",
        deviations=(
            "The paper first pre-trains the student with a pre-trained teacher and the same loss on masked-language "
            "modelling; here there is only the second stage. The student begins as the fine-tuned teacher's layers, "
            "cut to the two thirds of the hidden units, heads and FFN columns that reconstruct the others best (least "
            "squares on training texts), which is ours. The paper's lambda could not be read; 0.9 is a guess, because "
            "the paper calls it large for BERT."
        ),
        touches=("embedding", "attention_in", "attention", "attention_out", "ffn", "head"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=(
            Claim("qqp", "unknown", "accuracy", 88.6, "Ganesh et al. 2021, Table 1", False, {"layers": 3}),
            Claim("sst2", "unknown", "accuracy", 92.9, "Ganesh et al. 2021, Table 1", False, {"layers": 3}),
        ),
        notes=(
            "With BERT-base the defaults give the published 3 layers of 512 units, 8 heads and 2048 columns."
        ),
    )
    replaces_task_loss = True
    needs = frozenset({"teacher_logits"})

    @options
    class Options(ShallowerOptions):
        """`layers` of the student; `choose`: the teacher's layers that it starts from; `width`: share of hidden units,
        heads and FFN columns that stay; `weight` λ of the teacher; `batches` of 32 training examples for the choice of
        units; `augment`: texts made of each example.
        """

        width: Annotated[float, Field(gt=0, lt=1)] = 2 / 3
        weight: Annotated[float, Field(ge=0, le=1)] = 0.9
        batches: Annotated[int, Field(ge=1, le=10_000)] = 16

    suite = {"layers": (2, 1), "width": (0.5, 0.75), "batches": (2,), "weight": (0.9, 0.5)}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape with fewer and narrower layers.

        Raises SkylineError: OUT_OF_RANGE if `layers` or `width` does not fit; WRONG_SHAPE if layers share weights, are
        factorized, have wide exit ramps, or have neither heads nor FFN columns.
        """
        refuse_wide_ramps(config)
        refuse_factorized(config, MATRICES, "units")
        if not any(layer.present() for layer in config.layers):
            raise SkylineError(
                "no layer has heads or FFN columns; use an encoder that has some", Code.WRONG_SHAPE
            )
        return narrower(super().final_shape_from(config), self.options.width)

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a cut copy of the chosen layers, with the teacher's embedding and head."""
        model = super().student(teacher, context).to(context.device)
        config = narrower(model.config, self.options.width)
        return narrow(model, config, reconstruction.observe_inputs(model, context, self.options.batches))

    def loss(self, step: Step) -> Tensor:
        """Return the weighted sum (a scalar), which replaces the task loss."""
        weight = self.options.weight
        loss: Tensor = (1 - weight) * step.task_loss + weight * losses.logits_loss(step)
        return loss
