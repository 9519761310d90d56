"""Build models without random weights, for callers that set every weight afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

CONSTANTS = frozenset({"constant_", "eye_", "ones_", "zeros_"})
"""Functions of `torch.nn.init` that are not random."""


@contextmanager
def without_weights() -> Iterator[None]:
    """Build modules on the meta device: their parameters have shapes but no memory.

    Random initialization is skipped too. On the meta device torch would decompose each `normal_`, and import its
    compiler for this: 1.6 s for the first model of a process, 15 ms for each later one.
    """
    with torch.device("meta"), nothing_drawn():
        yield


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """Build modules with zeros instead of random weights. Use it when every weight is overwritten afterwards.

    Building BERT-base then takes 0.1 s; with torch's own random defaults it takes more than 1 s.
    """
    with _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    """Replace the random functions of `torch.nn.init` by zeros."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        _types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) != "torch.nn.init" or func.__name__ in CONSTANTS:
            return func(*args, **kwargs)
        tensor: torch.Tensor = kwargs["tensor"] if "tensor" in kwargs else args[0]
        return tensor if tensor.is_meta else tensor.data.zero_()
