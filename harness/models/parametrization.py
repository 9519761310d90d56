"""Functions on weights during training: fake quantization, learned masks, noise.

They are torch's parametrizations: `module.weight` is the function's value on the weight that the optimizer updates.
Methods attach them in `prepare` and bake them in `finish`; an artifact holds none.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from harness.common.errors import Code, SkylineError


class StraightThrough(torch.autograd.Function):
    """The straight-through estimator (Bengio et al. 2013): forward returns the second argument, backward passes the
    gradient unchanged to the first.
    """

    @staticmethod
    def forward(ctx: object, weight: Tensor, rounded: Tensor) -> Tensor:
        """Return `rounded`."""
        return rounded.view_as(rounded)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, None]:
        """Pass the gradient to the weight."""
        return gradients[0], None


def straight_through(weight: Tensor, rounded: Tensor) -> Tensor:
    """Return `rounded`; its gradient goes to `weight`. All have the same shape."""
    result: Tensor = StraightThrough.apply(weight, rounded)  # type: ignore[no-untyped-call]
    return result


def attach(model: nn.Module, name: str, function: nn.Module) -> None:
    """Compute the parameter `name` (such as `layers.0.ffn.into.weight`) by `function` from the trained weight, after
    any functions attached earlier. Raises SkylineError if there is no such parameter.

    The parameters of `function` itself are trained too; baking removes them. A copy of the model would share torch's
    dynamic class with it, so bake before copying.
    """
    module, attribute = _owner(model, name)
    parametrize.register_parametrization(module, attribute, function, unsafe=True)


def bake(model: nn.Module, name: str) -> None:
    """Set the parameter `name` to the present value of its functions, and remove them. Raises SkylineError if there is
    no such parameter.
    """
    module, attribute = _owner(model, name)
    if parametrize.is_parametrized(module, attribute):
        parametrize.remove_parametrizations(module, attribute, leave_parametrized=True)


def attached(model: nn.Module) -> list[str]:
    """Return the names of the parametrized weights."""
    return [
        f"{path}.{attribute}" if path else attribute
        for path, module in list(model.named_modules())
        if parametrize.is_parametrized(module)
        for attribute in module.parametrizations
    ]


def trained_weights(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Parameter]:
    """Return the parameters that the optimizer updates, by the names that they have without parametrizations. Raises
    SkylineError if there is no such parameter.
    """
    found = {}
    for name in names:
        module, attribute = _owner(model, name)
        if parametrize.is_parametrized(module, attribute):
            lists = module.parametrizations
            assert isinstance(lists, nn.ModuleDict)
            original = lists[attribute].original
            assert isinstance(original, nn.Parameter)
            found[name] = original
        else:
            found[name] = getattr(module, attribute)
    return found


def _owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, attribute = name.rpartition(".")
    try:
        module = model.get_submodule(path)
    except AttributeError:
        module = None
    if module is None or not isinstance(getattr(module, attribute, None), Tensor):
        raise SkylineError(
            f"the model has no weight '{name}', which this method needs; use it on an encoder",
            Code.WRONG_SHAPE,
        )
    return module, attribute
