"""Let heads and exit ramps read standardised states during a training, and fold the standardisation in afterwards.

In some encoders the vectors that a layer gives for all texts are nearly the same (cosines of 0.999): they differ little
from their mean. A classifier on them learns slowly, because AdamW moves each weight by about the learning rate,
whatever the scale of its input. So each reader gets (x − μ) / σ while it is trained, with μ and σ (H,) measured on
training rows before. A linear map W, b on it is the map W / σ, b − W · μ / σ on x, which is what the artifact keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from harness.compression.encoded_rows import encode_examples
from harness.models.encoder.encoder import Encoder
from harness.models.encoder.heads import Head, LinearRamp, PoolerRamp, StudentRamp
from harness.models.model import Model, evaluating
from harness.models.students.bottleneck import MobileBERT

if TYPE_CHECKING:
    from harness.compression.context import Context
    from harness.compression.encoded_rows import EncodedSplit

Reader = Head | PoolerRamp | LinearRamp | StudentRamp
ROWS = 512
"""The most training rows on which μ and σ are measured."""
TOKENS_PER_BATCH = 4096
LEAST_DEVIATION = 1e-6


class Standardized(nn.Module):
    """Maps states (…, H) to (x − μ) / σ."""

    mean: Tensor  # (H,)
    deviation: Tensor  # (H,)

    def __init__(self, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Standardise states (…, H)."""
        return (x - self.mean) / self.deviation


@contextmanager
def standardized(model: Model, rows: EncodedSplit) -> Iterator[None]:
    """Let the heads and ramps of `model` read standardised states within the block.

    A reader's function does not change, neither at the beginning nor at the end; only its training does. Readers whose
    weights are frozen or parametrized (masked, fake-quantized) stay as they are.
    """
    readers = [reader for reader in _readers(model) if _is_trained(first_map(reader))]
    if not readers:
        yield
        return
    before = [_weights(reader) for reader in readers]
    for reader, (mean, deviation) in zip(readers, _statistics(model, readers, rows), strict=True):
        reader.standard = Standardized(mean, deviation)
        unfold(first_map(reader), mean, deviation)
    unfolded = [_weights(reader) for reader in readers]
    try:
        yield
    finally:
        for reader, own, start in zip(readers, before, unfolded, strict=True):
            assert isinstance(reader.standard, Standardized)
            if all(map(torch.equal, _weights(reader), start)):  # not trained: folding would only round
                first_map(reader).load_state_dict(dict(zip(("weight", "bias"), own, strict=True)))
            else:
                fold(first_map(reader), reader.standard.mean, reader.standard.deviation)
            reader.standard = nn.Identity()


def adapt(student: Model, teacher: Model, context: Context) -> None:
    """Change readers of `student` in place whose weights are those of the teacher's head, but which read another layer:
    the head of a student with fewer layers, and ramps that begin as copies of the head.

    Each then reads the standardised vectors of its layer as the teacher's head reads those of the last layer.
    """
    if not isinstance(student, Encoder) or not isinstance(teacher, Encoder):
        return
    theirs = first_map(teacher.head) if _readers(teacher) else None
    readers = [
        reader
        for reader in _readers(student)
        if theirs is not None
        and _is_plain(first_map(reader))
        and _is_plain(theirs)
        and (reader is not student.head or len(student.layers) != len(teacher.layers))
        and torch.equal(first_map(reader).weight, theirs.weight)
    ]
    if not readers:
        return
    rows = encode_examples(
        context.training_examples(),
        student,
        context.task.kind,
        student.length_for(context.task),
        f"the training set of {context.task.name}",
    )
    ((mean, deviation),) = _statistics(teacher, [teacher.head], rows)
    for reader, own in zip(readers, _statistics(student, readers, rows), strict=True):
        unfold(first_map(reader), mean, deviation)
        fold(first_map(reader), *own)


@torch.no_grad()
def fold(linear: nn.Linear, mean: Tensor, deviation: Tensor) -> None:
    """Change a map of standardised states in place into the map of plain states that computes the same."""
    linear.weight.div_(deviation)
    linear.bias.sub_(linear.weight @ mean)


@torch.no_grad()
def unfold(linear: nn.Linear, mean: Tensor, deviation: Tensor) -> None:
    """Undo `fold`."""
    linear.bias.add_(linear.weight @ mean)
    linear.weight.mul_(deviation)


def first_map(reader: Reader) -> nn.Linear:
    """Return the linear map that reads what `standard` gives."""
    if isinstance(reader, PoolerRamp):
        return reader.pooler
    if isinstance(reader, StudentRamp):
        return reader.into
    found = reader.classifier
    if isinstance(reader, Head) and reader.pooler is not None:
        found = reader.pooler
    assert found is not None
    return found


def _weights(reader: Reader) -> tuple[Tensor, Tensor]:
    linear = first_map(reader)
    return linear.weight.detach().clone(), linear.bias.detach().clone()


def _is_trained(linear: nn.Linear) -> bool:
    return _is_plain(linear) and linear.weight.requires_grad


def _is_plain(linear: nn.Module) -> bool:
    return type(linear) is nn.Linear and linear.bias is not None and not parametrize.is_parametrized(linear)


def _readers(model: Model) -> list[Reader]:
    if not isinstance(model, Encoder | MobileBERT) or model.head.span:
        return []
    if model.head.pooler is None and model.head.classifier is None:
        return []
    ramps = [ramp for ramp in getattr(model, "exits", nn.ModuleDict()).values() if isinstance(ramp, Reader)]
    # Linear ramps read what the head's pooler gives for other layers, so that it must stay a map of plain vectors.
    return ramps if any(isinstance(ramp, LinearRamp) for ramp in ramps) else [model.head, *ramps]


def _statistics(model: Model, readers: list[Reader], rows: EncodedSplit) -> list[tuple[Tensor, Tensor]]:
    """Return mean and deviation (H,) of what each reader reads, over rows (for FastBERT's ramps, over their tokens)."""
    device = next(model.parameters()).device
    seen: list[list[Tensor]] = [[] for _ in readers]

    def keep_in(place: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        return lambda _, inputs: place.append(inputs[0].float())

    hooks = [
        reader.standard.register_forward_pre_hook(keep_in(place))
        for reader, place in zip(readers, seen, strict=True)
    ]
    step = max(1, len(rows) // ROWS)
    chosen = range(0, min(len(rows), ROWS * step), step)
    try:
        with evaluating(model), torch.no_grad():
            for start in range(0, len(chosen), 64):
                model(rows.batch(list(chosen[start : start + 64])).to(device))
    finally:
        for hook in hooks:
            hook.remove()
    found = []
    for place in seen:
        vectors = torch.cat([each.flatten(0, -2) for each in place])  # (rows or tokens, H)
        deviation = vectors.std(0, correction=0).clamp_min(LEAST_DEVIATION)
        found.append((vectors.mean(0), deviation))
    return found
