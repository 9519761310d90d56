"""Quantization while training: forward sees rounded weights and inputs, backward passes the gradient straight
through (Jacob et al. 2018; Zafrir et al. 2019, section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from harness.models.codecs import INT8_MAX, Codec, Pack, Stage
from harness.models.model import Model
from harness.models.parametrization import attach, bake, straight_through


class Rounded(nn.Module):
    """A weight as a codec's stage would give it back: what training sees is what the artifact will hold. Weights
    beyond `clip` in size, where it is given, get no gradient.
    """

    def __init__(self, stage: Stage, clip: float | None = None) -> None:
        super().__init__()
        self.stage, self.clip = stage, clip

    def forward(self, weight: Tensor) -> Tensor:
        """Encode, decode, and pass the gradient through."""
        values, beside = self.stage.encode(weight.detach().float())
        passed = weight if self.clip is None else weight.clamp(-self.clip, self.clip)
        return straight_through(passed, self.stage.decode(values, beside, weight.shape))


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
        return (_round_int8(x, self.largest), *inputs[1:])


def rounded_as_it_comes(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A forward pre-hook: rounds the first input to symmetric int8, its range max |x| of this very tensor (Zhang et
    al. 2020, section 3.1).
    """
    x = inputs[0]
    return (_round_int8(x, x.detach().abs().amax().float()), *inputs[1:])


def _round_int8(x: Tensor, largest: Tensor) -> Tensor:
    scale = (largest / INT8_MAX).clamp_min(torch.finfo(torch.float32).tiny).to(x.device)
    rounded = (x.detach().float() / scale).round().clamp(-INT8_MAX, INT8_MAX) * scale
    return straight_through(x, rounded.to(x.dtype))


InputHook = Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]


class QuantizedTraining:
    """Fake quantization of an encoder: `stages` by weight name; int8 inputs of its linear maps with a moving range
    where `decay` is given, with each batch's own range where they are `dynamic`. `clip`: see `Rounded`.
    """

    def __init__(
        self,
        student: Model,
        stages: Mapping[str, Stage],
        decay: float | None = None,
        dynamic: bool = False,
        clip: float | None = None,
    ) -> None:
        self.stages = dict(stages)
        for name, stage in self.stages.items():
            attach(student, name, Rounded(stage, clip))
        self._hooks = list[Any]()
        if dynamic:
            self._hooks += _hook_inputs(student, self.stages, lambda: rounded_as_it_comes)
        elif decay is not None:
            self._hooks += _hook_inputs(student, self.stages, lambda: RoundedInput(decay))

    def store(self, student: Model) -> None:
        """End, and let the artifact store the rounded weights, codes of less than a byte packed. Masks of sparse
        weights stay.
        """
        self.end(student)
        codecs = student.storage.codecs
        for name, stage in self.stages.items():
            kept = [s for s in codecs.get(name, Codec()).stages if s.order not in (stage.order, Pack.order)]
            codec = Codec(tuple(kept)).with_stage(stage)
            width = round(stage.bits(32))
            codecs[name] = codec if width >= 8 else codec.with_stage(Pack(width))

    def end(self, student: Model) -> None:
        """Leave the rounded weights in the encoder and take everything else away."""
        for hook in self._hooks:
            hook.remove()
        for name in self.stages:
            bake(student, name)


def _hook_inputs(student: Model, names: Mapping[str, Stage], make: Callable[[], InputHook]) -> Iterator[Any]:
    for name in names:
        module = student.get_submodule(name.rpartition(".")[0])
        if isinstance(module, nn.Linear):
            yield module.register_forward_pre_hook(make())


def linear_weights(student: Model) -> list[str]:
    """The weights of every linear map but the classifier, by name."""
    return [
        f"{path}.weight"
        for path, module in student.named_modules()
        if isinstance(module, nn.Linear) and not path.startswith("head.classifier")
    ]


def embedding_tables(student: Model) -> dict[str, int]:
    """The rows of every lookup table in the embedding, by its weight's name: words, positions, segments."""
    return {
        f"embedding.{path}.weight": module.num_embeddings
        for path, module in student.embedding.named_modules()
        if isinstance(module, nn.Embedding)
    }
