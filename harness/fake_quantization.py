"""Quantization while training: forward sees rounded weights and inputs, backward passes the gradient straight
through (Jacob et al. 2018; Zafrir et al. 2019, section 2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.codecs import INT8_MAX, Stage
from harness.encoder import Encoder
from harness.parametrized import attach, bake, straight_through


class Rounded(nn.Module):
    """A weight as a codec's stage would give it back: what training sees is what the artifact will hold."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, weight: Tensor) -> Tensor:
        """Encode, decode, and pass the gradient through."""
        values, beside = self.stage.encode(weight.detach().float())
        return straight_through(weight, self.stage.decode(values, beside, weight.shape))


class RoundedInput(nn.Module):
    """Inputs of a module rounded to symmetric int8; the range is a moving average of max |x|, which begins with
    the first batch (Zafrir et al. 2019, section 2.1).
    """

    largest: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.largest = torch.zeros(())

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """A forward pre-hook: rounds the first input, (…, in)."""
        x = inputs[0]
        if module.training:
            largest = x.detach().abs().amax().float()
            before = self.largest.to(largest.device)
            started = bool(before > 0)
            self.largest = before - (1 - self.decay) * (before - largest) if started else largest
        scale = (self.largest / INT8_MAX).clamp_min(torch.finfo(torch.float32).tiny).to(x.device)
        rounded = (x.detach().float() / scale).round().clamp(-INT8_MAX, INT8_MAX) * scale
        return (straight_through(x, rounded.to(x.dtype)), *inputs[1:])


class QuantizedTraining:
    """Fake quantization of an encoder: `stages` by weight name, and int8 inputs where `decay` is given."""

    def __init__(self, student: Encoder, stages: Mapping[str, Stage], decay: float | None = None) -> None:
        self.stages = dict(stages)
        for name, stage in self.stages.items():
            attach(student, name, Rounded(stage))
        self._hooks = [] if decay is None else list(_hook_inputs(student, self.stages, decay))

    def end(self, student: Encoder) -> None:
        """Leave the rounded weights in the encoder and take everything else away."""
        for hook in self._hooks:
            hook.remove()
        for name in self.stages:
            bake(student, name)


def _hook_inputs(student: Encoder, names: Mapping[str, Stage], decay: float) -> Iterator[Any]:
    for name in names:
        module = student.get_submodule(name.rpartition(".")[0])
        if isinstance(module, nn.Linear):
            yield module.register_forward_pre_hook(RoundedInput(decay))


def linear_weights(student: Encoder) -> list[str]:
    """The weights of every linear map but the classifier, by name."""
    return [
        f"{path}.weight"
        for path, module in student.named_modules()
        if isinstance(module, nn.Linear) and not path.startswith("head.classifier")
    ]
