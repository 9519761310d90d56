"""A method that records its calls, and functions that compare weights, for tests of the training loop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from harness.compression.card import options
from harness.compression.context import Context, Step
from harness.compression.method import Method
from harness.models.encoder.encoder import Encoder
from harness.recipes.discovery import discover
from harness.recipes.recipe import Call


def state(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Probe(Method):
    """A method that records its calls in `log`."""

    card = replace(discover().get("magnitude").card, id="probe")

    @options
    class Options:
        """`name`: what it writes into the log."""

        name: str = "probe"

    log: list[tuple[str, str, float]]

    def note(self, hook: str, progress: float = -1.0) -> None:
        self.log.append((self.options.name, hook, progress))

    def prepare(self, student: Encoder, context: Context) -> None:
        self.note("prepare")

    def loss(self, step: Step) -> Tensor | None:
        self.note("loss", step.progress)
        return None

    def step(self, student: Encoder, progress: float) -> None:
        self.note("step", progress)

    def finish(self, student: Encoder, context: Context) -> None:
        self.note("finish")


def probe(kind: type[Method] = Probe, name: str = "probe", log: list[Any] | None = None) -> Call:
    logged = type(kind.__name__, (kind,), {"log": [] if log is None else log, "card": Probe.card})
    return Call(logged, Probe.Options(name=name))
