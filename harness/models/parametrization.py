"""Weights that training sees through a function: fake quantization, masks that are learned, noise.

The functions are torch's parametrizations: `module.weight` becomes what the function makes of the weight that
the optimizer moves. Methods attach them in `prepare` and bake them in `finish`; an artifact holds none.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from harness.common.errors import SkylineError


class RoundTrip(torch.autograd.Function):
    """The straight-through estimator: forward gives the second argument, backward passes the gradient to the
    first unchanged (Bengio et al. 2013).
    """

    @staticmethod
    def forward(ctx: object, weight: Tensor, rounded: Tensor) -> Tensor:
        """Return `rounded`."""
        return rounded.view_as(rounded)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, None]:
        """Hand the gradient on."""
        return gradients[0], None


def straight_through(weight: Tensor, rounded: Tensor) -> Tensor:
    """`rounded`, with the gradient of `weight`."""
    result: Tensor = RoundTrip.apply(weight, rounded)  # type: ignore[no-untyped-call]
    return result


def attach(model: nn.Module, name: str, function: nn.Module) -> None:
    """Let `function` make the parameter `name` (as `layers.0.ffn.into.weight`) from the trained one, after the
    functions that are attached already. Raises SkylineError where there is no such parameter.

    `function`'s own parameters are trained too, and are gone once baked. A copy of the model shares torch's
    dynamic class with it, so bake before copying.
    """
    module, attribute = _place(model, name)
    parametrize.register_parametrization(module, attribute, function, unsafe=True)


def bake(model: nn.Module, name: str) -> None:
    """Make the parameter `name` what its functions make of it now, and take them away."""
    module, attribute = _place(model, name)
    if parametrize.is_parametrized(module, attribute):
        parametrize.remove_parametrizations(module, attribute, leave_parametrized=True)


def bake_all(model: nn.Module) -> None:
    """Bake every parametrized weight of `model`."""
    for name in attached(model):
        bake(model, name)


def attached(model: nn.Module) -> list[str]:
    """The names of the parametrized weights."""
    return [
        f"{path}.{attribute}" if path else attribute
        for path, module in list(model.named_modules())
        if parametrize.is_parametrized(module)
        for attribute in module.parametrizations
    ]


def trained_weights(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Parameter]:
    """The parameters that the optimizer moves, by the names they have without parametrizations. Raises
    SkylineError for a name that is none.
    """
    found = {}
    for name in names:
        module, attribute = _place(model, name)
        if parametrize.is_parametrized(module, attribute):
            lists = module.parametrizations
            assert isinstance(lists, nn.ModuleDict)
            original = lists[attribute].original
            assert isinstance(original, nn.Parameter)
            found[name] = original
        else:
            found[name] = getattr(module, attribute)
    return found


def _place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, attribute = name.rpartition(".")
    try:
        module = model.get_submodule(path)
    except AttributeError:
        module = None
    if module is None or not isinstance(getattr(module, attribute, None), Tensor):
        raise SkylineError(f"the student has no weight '{name}'; this method needs an encoder's")
    return module, attribute
