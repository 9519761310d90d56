"""theseus: successors of one layer replace modules of several layers, more and more often in training."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Annotated, Any, cast

from pydantic import Field

from harness import Card, Claim, Method, Paper, SkylineError, options
from harness.common.errors import Code
from harness.common.lazy import lazy_imports
from harness.models.shape_checks import divisors, refuse_eliminated, refuse_shared

with lazy_imports():
    import torch

    from harness.models import surgery


if TYPE_CHECKING:
    from torch import Tensor

    from harness.compression.context import Context
    from harness.models.batch import AttentionMap
    from harness.models.config import EncoderConfig
    from harness.models.encoder.encoder import Encoder

PUBLISHED = {"layers": 6, "base": 0.3}
TRANSFERRED = "for the model that was compressed on MNLI and then fine-tuned on this task"


def replacement_rate(progress: float, base: float, full: float) -> float:
    """Return the probability that a module is replaced: `base` at the start, rising linearly to 1 at progress `full`
    (Xu et al. 2020, section 3.3, eq. 6, in training progress instead of steps).
    """
    return min(1.0, base + (1 - base) * progress / full)


class Theseus(Method):
    """BERT-of-Theseus (Xu et al. 2020): each batch draws, for every module, its successor (one layer) or its
    predecessor (the teacher's layers, frozen). Only successors are trained, on the task loss alone.
    """

    card = Card(
        id="theseus",
        title="BERT-of-Theseus",
        family="structured-pruning",
        paper=Paper(
            title="BERT-of-Theseus: Compressing BERT by Progressive Module Replacing",
            authors="Xu, Zhou, Ge, Wei, Zhou",
            year=2020,
            venue="EMNLP",
            link="https://aclanthology.org/2020.emnlp-main.633/",
        ),
        scope="task-specific",
        fidelity="faithful",
        deviations="",
        touches=("attention_in", "attention", "attention_out", "ffn"),
        reduces=("disk", "parameters", "flops", "latency", "memory"),
        claims=(
            Claim(
                "mnli",
                "dev",
                "accuracy",
                82.1,
                "the released code's README",
                options=PUBLISHED,
            ),
            Claim(
                "qqp",
                "dev",
                "accuracy",
                88.8,
                "the released code's README",
                options=PUBLISHED,
                conditions=TRANSFERRED,
            ),
            Claim(
                "sst2",
                "dev",
                "accuracy",
                91.8,
                "the released code's README",
                options=PUBLISHED,
                conditions=TRANSFERRED,
            ),
        ),
        notes=(
            "Successors start from the teacher's first layers; embeddings, pooler and classifier are frozen, as "
            "published. A draw holds for a whole batch, as in the released code. The rate reaches 1 at `full`; then "
            "the successors are fine-tuned together."
        ),
    )
    decides = frozenset({"the student"})

    @options
    class Options:
        """`layers` of the successor; `base`: replacement rate at the start; `full`: progress at which it is 1."""

        layers: Annotated[int, Field(ge=1)] = 3
        base: Annotated[float, Field(gt=0, le=1)] = 0.3
        full: Annotated[float, Field(gt=0, le=1)] = 0.7

    suite = {"layers": (2, 1), "base": (0.3, 0.5)}

    def final_shape_from(self, config: EncoderConfig) -> EncoderConfig:
        """Return the shape of the first `layers` layers.

        Raises SkylineError: OUT_OF_RANGE if `layers` does not divide the layers into modules of at least two;
        WRONG_SHAPE if layers share weights or word-vectors are eliminated.
        """
        refuse_shared(config, "modules")
        refuse_eliminated(config, "so modules cannot stand for each other; replace them before")
        available, wanted = len(config.layers), self.options.layers
        fitting = divisors(available)[:-1]
        if wanted not in fitting:
            raise SkylineError(
                f"layers={wanted} does not divide {available} layers into modules of at least two; "
                f"use {' or '.join(map(str, fitting)) or 'a deeper encoder'}",
                Code.OUT_OF_RANGE,
            )
        return config.with_layers(config.layers[:wanted])

    def student(self, teacher: Encoder, context: Context) -> Encoder:
        """Return a copy of the teacher's first layers, the successors."""
        self.predecessor = teacher
        return surgery.keep_layers(teacher, range(self.options.layers))

    def prepare(self, student: Encoder, context: Context) -> None:
        """Pair each successor with its predecessors, and freeze all other parameters."""
        o, layers = self.options, self.predecessor.layers
        student.requires_grad_(False)
        generator = context.generator("theseus")
        size = len(layers) // o.layers
        for index in range(o.layers):
            student.layers[index].requires_grad_(True)
            old = deepcopy(layers[index * size : (index + 1) * size]).requires_grad_(False)
            module = _module()(student.layers[index], old, generator)
            module.rate = o.base
            student.layers[index] = module
        module.last = True

    def step(self, student: Encoder, progress: float) -> None:
        """Set the replacement rate."""
        for module in student.layers:
            cast(Any, module).rate = replacement_rate(progress, self.options.base, self.options.full)

    def finish(self, student: Encoder, context: Context) -> None:
        """Remove the predecessors."""
        for index, module in enumerate(student.layers):
            student.layers[index] = cast(Any, module).successor
        student.requires_grad_(True)


def _module() -> type[torch.nn.Module]:
    """Return the class of a replaceable module. A function makes it, because this file is imported without torch."""

    class Replaceable(torch.nn.Module):
        """Runs its successor, or in training, with probability 1 − rate, its predecessors."""

        rate: float
        last = False

        def __init__(
            self, successor: torch.nn.Module, predecessors: torch.nn.Module, generator: torch.Generator
        ) -> None:
            super().__init__()
            self.successor, self.predecessors, self.generator = successor, predecessors, generator

        def forward(self, x: Tensor, mask: Tensor, maps: bool = False) -> tuple[Tensor, AttentionMap | None]:
            """Map states (b, n, H) to states of the same shape, as `Layer.forward` does."""
            if not self.training or float(torch.rand((), generator=self.generator)) < self.rate:
                return cast("tuple[Tensor, AttentionMap | None]", self.successor(x, mask, maps))
            attention = None
            for layer in cast(torch.nn.ModuleList, self.predecessors):
                x, attention = layer(x, mask, maps)
            if self.last and not x.requires_grad:
                # Only predecessors ran. The loss still needs a gradient, here zero.
                x = x + 0 * next(self.successor.parameters()).sum()
            return x, attention

    return Replaceable
