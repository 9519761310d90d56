"""Snapshots of what an adapter must not change: the process's global state, and the encoders that it is given."""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.models.model import Model

_Get = Callable[[], Any]
_Set = Callable[[Any], object]


def _set_environment(values: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(values)


def _set_path(path: list[str]) -> None:
    sys.path[:] = path


_SETTINGS: dict[str, tuple[_Get, _Set]] = {
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": (torch.get_default_device, torch.set_default_device),
    "torch's gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's deterministic mode": (
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
    ),
    "torch's anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    "torch's matrix precision": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "NumPy's error handling": (np.geterr, lambda value: np.seterr(**value)),
    "the environment": (lambda: dict(os.environ), _set_environment),
    "the warnings filters": (lambda: list(warnings.filters), lambda _: None),
    "the import path": (lambda: list(sys.path), _set_path),
    "the working directory": (os.getcwd, os.chdir),
}
"""Global settings, with functions that read and set them. Warnings filters are restored by `catch_warnings` instead."""


@dataclass(frozen=True)
class RandomStates:
    """The states of the global random generators of torch, NumPy and Python."""

    torch: Tensor
    numpy: Any
    python: Any

    @classmethod
    def now(cls) -> RandomStates:
        """Read the present states."""
        return cls(torch.get_rng_state(), np.random.get_state(), random.getstate())

    @classmethod
    def seed(cls, seed: int) -> RandomStates:
        """Seed all three generators, and read their states."""
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        return cls.now()

    def restore(self) -> None:
        """Set the generators to these states."""
        torch.set_rng_state(self.torch)
        np.random.set_state(self.numpy)
        random.setstate(self.python)

    def changes(self, later: RandomStates) -> list[str]:
        """Return the names of the generators whose states differ."""
        same_numpy = all(np.array_equal(a, b) for a, b in zip(self.numpy, later.numpy, strict=True))
        found = {
            "torch's global generator": not torch.equal(self.torch, later.torch),
            "NumPy's global generator": not same_numpy,
            "Python's global generator": self.python != later.python,
        }
        return [name for name, changed in found.items() if changed]


@dataclass(frozen=True)
class GlobalState:
    """Global settings and the states of generators at one moment."""

    settings: dict[str, Any]
    random: RandomStates

    @classmethod
    def now(cls) -> GlobalState:
        """Read the present state."""
        return cls({name: get() for name, (get, _) in _SETTINGS.items()}, RandomStates.now())

    def restore(self) -> None:
        """Set settings and generators to this state."""
        for name, (get, put) in _SETTINGS.items():
            if get() != self.settings[name]:
                put(self.settings[name])
        self.random.restore()

    def changed_settings(self, later: GlobalState) -> list[str]:
        """Return the names of the settings that differ, for the environment with the variables' names."""
        found = [name for name, value in self.settings.items() if value != later.settings[name]]
        if "the environment" in found:
            own, other = self.settings["the environment"], later.settings["the environment"]
            names = sorted(name for name in {*own, *other} if own.get(name) != other.get(name))
            found[found.index("the environment")] = f"the environment ({', '.join(names)})"
        return found

    def changes(self, later: GlobalState) -> list[str]:
        """Return the names of the settings and generators that differ."""
        return self.changed_settings(later) + self.random.changes(later.random)


@contextmanager
def preserved() -> Iterator[GlobalState]:
    """Restore settings, generators and warnings filters after the block. Yields their state before it."""
    with warnings.catch_warnings():
        before = GlobalState.now()
        try:
            yield before
        finally:
            before.restore()


class ModelState:
    """A snapshot of everything in a model that a method must not change."""

    def __init__(self, model: Model) -> None:
        self.config, self.origin = model.config, model.origin
        self.codecs = {name: str(codec) for name, codec in model.storage.codecs.items()}
        self.kernels = dict(model.storage.kernels)
        self.tensors = {name: tensor.detach().clone() for name, tensor in _tensors(model).items()}
        self.trainable = {name: p.requires_grad for name, p in model.named_parameters()}
        self.gradients = {name for name, p in model.named_parameters() if p.grad is not None}
        self.training = {path: module.training for path, module in model.named_modules()}
        self.modules = {
            path: (type(module), len(module._forward_hooks), len(module._forward_pre_hooks))
            for path, module in model.named_modules()
        }

    def changes(self, later: ModelState) -> list[str]:
        """Return the differences to a later snapshot in words, each with the first place."""
        found = []
        if (self.config, self.origin) != (later.config, later.origin):
            found.append("its configuration")
        if (self.codecs, self.kernels) != (later.codecs, later.kernels):
            found.append("its storage (codecs or kernels)")
        if self.modules != later.modules:
            found.append(f"module '{_first(self.modules, later.modules)}' (its type or hooks)")
        changed = [n for n, t in self.tensors.items() if not _same(t, later.tensors.get(n))]
        changed += [n for n in later.tensors if n not in self.tensors]
        if changed:
            found.append(f"weight '{changed[0]}'")
        if self.training != later.training:
            found.append(f"the training flag of '{_first(self.training, later.training) or 'the encoder'}'")
        if self.trainable != later.trainable and not changed:
            found.append(f"requires_grad of '{_first(self.trainable, later.trainable)}'")
        if later.gradients - self.gradients:
            found.append(f"the gradient of '{min(later.gradients - self.gradients)}'")
        return found


def _tensors(model: Model) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _same(one: Tensor, other: Tensor | None) -> bool:
    """Return whether two tensors are equal to the bit: NaN equals itself, −0 differs from 0."""
    if other is None or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(*(t.detach().contiguous().flatten().view(torch.uint8) for t in (one, other)))


def _first(one: dict[str, Any], other: dict[str, Any]) -> str:
    return next(name for name in {**one, **other} if one.get(name) != other.get(name))
