"""Models whose weights are not drawn where they are made, because they come from elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

CONSTANTS = frozenset({"constant_", "eye_", "ones_", "zeros_"})
"""Functions of `torch.nn.init` that draw nothing."""


@contextmanager
def without_weights() -> Iterator[None]:
    """Modules that are built here have parameters on the meta device: shapes alone.

    Nothing is drawn for them. torch would decompose each draw of normal numbers for that device, and import its
    compiler to do so: 1.6 s at the first model of a process, 15 ms at each later one.
    """
    with torch.device("meta"), nothing_drawn():
        yield


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """Modules that are built here begin with zeros in the place of random numbers: for who then sets every weight.

    A BERT-base is built in a tenth of a second, and in more than one where torch draws its own defaults.
    """
    with _NothingDrawn():
        yield


class _NothingDrawn(TorchFunctionMode):
    """Sets to zero what `torch.nn.init` was to draw."""

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
