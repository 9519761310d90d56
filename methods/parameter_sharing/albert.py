"""albert: layers share one set of weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness import Card, Claim, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.shape_checks import divisors

with lazy_imports():
    import torch

    from harness.models import surgery


if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder


def groups_of_layers(layers: int, groups: int) -> list[list[int]]:
    """Return the indices of neighbouring layers in `groups` groups of equal size. `groups` must divide `layers`."""
    size = layers // groups
    return [list(range(start, start + size)) for start in range(0, layers, size)]


class Albert(Method):
    """Cross-layer parameter sharing (Lan et al. 2020, section 3.1) on a fine-tuned encoder: the layers of a group share
    one set of weights, which is fine-tuned further.
    """

    card = Card(
        id="albert",
        title="Parameter sharing",
        family="parameter-sharing",
        paper=Paper(
            title="ALBERT: A Lite BERT for Self-supervised Learning of Language Representations",
            authors="Lan, Chen, Goodman, Gimpel, Sharma, Soricut",
            year=2020,
            venue="ICLR",
            link="https://arxiv.org/abs/1909.11942",
        ),
        scope="task-agnostic",
        fidelity="variant",
        deviations=(
            "ALBERT is pre-trained with shared layers and a factorized embedding. Here layers of a fine-tuned encoder "
            "are tied and fine-tuned further. Combine it with embedding-factorization to factorize the embedding too."
        ),
        touches=("attention_in", "attention_out", "ffn"),
        reduces=("disk", "parameters", "memory"),
        claims=(
            Claim("sst2", "dev", "accuracy", 90.3, "ALBERT's README, base, version 1", options={"groups": 1}),
        ),
        notes=(
            "Every layer still runs, so FLOPs and latency stay the same. Layers that were trained separately are tied "
            "and only fine-tuned afterwards; the paper pre-trains them together."
        ),
    )
    decides = frozenset({"the student"})

    @options
    class Options:
        """`groups`: number of groups; `init`: a group starts from the mean of its layers' weights, from its first
        layer, or from its layer `chosen` (counted from 0 within the group).
        """

        groups: Annotated[int, Field(ge=1)] = 1
        init: Literal["mean", "first", "chosen"] = "first"
        chosen: Annotated[int, Field(ge=0)] = 0

    suite = {"groups": (2, 1, 4), "init": ("first", "mean")}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape in which each group's layers share weights.

        Raises SkylineError: OUT_OF_RANGE if `groups` does not divide the layers, or `chosen` is not below a group's
        size; WRONG_SHAPE if layers of a group differ in shape or share weights already.
        """
        o, layers = self.options, config.layers
        if o.groups not in divisors(len(layers)):
            fitting = ", ".join(map(str, divisors(len(layers))))
            raise SkylineError(
                f"groups={o.groups} does not divide {len(layers)} layers; use one of {fitting}",
                Code.OUT_OF_RANGE,
            )
        groups = groups_of_layers(len(layers), o.groups)
        if o.init == "chosen" and o.chosen >= len(groups[0]):
            raise SkylineError(
                f"chosen={o.chosen} is none of the {len(groups[0])} layers of a group; use a smaller number",
                Code.OUT_OF_RANGE,
            )
        shared = list(layers)
        for group in groups:
            first = layers[group[0]]
            for index in group:
                if layers[index].shares_with is not None or layers[index] != first:
                    raise SkylineError(
                        f"layer {index} has another shape than layer {group[0]}, or shares weights already; "
                        "share layers of one shape",
                        Code.WRONG_SHAPE,
                    )
                if index != group[0]:
                    shared[index] = first.model_copy(update={"shares_with": group[0]})
        return config.with_layers(tuple(shared))

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a copy of the teacher whose layers share weights by group."""
        o = self.options
        groups = groups_of_layers(len(teacher.config.layers), o.groups)
        sources = [None if index == group[0] else group[0] for group in groups for index in group]
        student = surgery.share_layers(teacher, sources)
        with torch.no_grad():
            for group in groups:
                members = group if o.init == "mean" else [group[o.chosen if o.init == "chosen" else 0]]
                states = [dict(teacher.layers[index].named_parameters()) for index in members]
                for name, parameter in student.layers[group[0]].named_parameters():
                    parameter.copy_(torch.stack([state[name] for state in states]).mean(0))
        return student
