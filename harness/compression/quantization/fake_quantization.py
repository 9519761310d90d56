"""Quantization-aware training: the forward pass uses rounded weights and inputs, and the backward pass uses the
straight-through estimator (Jacob et al. 2018; Zafrir et al. 2019, section 2).
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
    """A parametrization that encodes and decodes a weight by a codec's stage, so that training uses the values which
    the artifact will hold. Weights with |w| > `clip`, if given, get no gradient.
    """

    def __init__(self, stage: Stage, clip: float | None = None) -> None:
        super().__init__()
        self.stage, self.clip = stage, clip

    def forward(self, weight: Tensor) -> Tensor:
        """Return the rounded weight, of the same shape; the gradient passes straight through."""
        values, beside = self.stage.encode(weight.detach().float())
        passed = weight if self.clip is None else weight.clamp(-self.clip, self.clip)
        return straight_through(passed, self.stage.decode(values, beside, weight.shape))


class RoundedInput(nn.Module):
    """A forward pre-hook that rounds a module's first input (…, in) to symmetric int8. The range is an exponential
    moving average of max |x|, which begins with the first batch (Zafrir et al. 2019, section 2.1).
    """

    largest: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.largest = torch.zeros(())

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the inputs with the first one rounded. In training, update the range before."""
        x = inputs[0]
        if module.training:
            largest = x.detach().abs().amax().float()
            before = self.largest.to(largest.device)
            started = bool(before > 0)
            self.largest = before - (1 - self.decay) * (before - largest) if started else largest
        return (_round_int8(x, self.largest), *inputs[1:])


def rounded_as_it_comes(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Round a module's first input (…, in) to symmetric int8, as a forward pre-hook. The range is max |x| of the input
    itself (Zhang et al. 2020, section 3.1).
    """
    x = inputs[0]
    return (_round_int8(x, x.detach().abs().amax().float()), *inputs[1:])


def _round_int8(x: Tensor, largest: Tensor) -> Tensor:
    scale = (largest / INT8_MAX).clamp_min(torch.finfo(torch.float32).tiny).to(x.device)
    rounded = (x.detach().float() / scale).round().clamp(-INT8_MAX, INT8_MAX) * scale
    return straight_through(x, rounded.to(x.dtype))


InputHook = Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]


class QuantizedTraining:
    """Fake quantization of a model. `stages` holds a codec's stage by weight name, and `clip` is that of `Rounded`.

    The inputs of the linear maps among these weights are rounded to int8 if `dynamic` (range of each batch) or if
    `decay` is given (moving average); otherwise they stay as they are.
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
        """End fake quantization, and make the artifact store the codes of the rounded weights; codes with fewer than 8
        bits are packed. Bitmasks of pruned weights stay.
        """
        self.end(student)
        codecs = student.storage.codecs
        for name, stage in self.stages.items():
            kept = [s for s in codecs.get(name, Codec()).stages if s.order not in (stage.order, Pack.order)]
            codec = Codec(tuple(kept)).with_stage(stage)
            width = round(stage.bits(32))
            codecs[name] = codec if width >= 8 else codec.with_stage(Pack(width))

    def end(self, student: Model) -> None:
        """Leave the rounded weights in the student, and remove the hooks and parametrizations."""
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
    """Return the names of the weights of all linear maps except the classifier."""
    return [
        f"{path}.weight"
        for path, module in student.named_modules()
        if isinstance(module, nn.Linear) and not path.startswith("head.classifier")
    ]


def embedding_tables(student: Model) -> dict[str, int]:
    """Return the number of rows of each lookup table in the embedding (words, positions, segments), by the weight's
    name.
    """
    return {
        f"embedding.{path}.weight": module.num_embeddings
        for path, module in student.embedding.named_modules()
        if isinstance(module, nn.Embedding)
    }
