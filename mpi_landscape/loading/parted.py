"""Losses in two steps: what the network gives of a batch, and the loss of that.

The Gauss-Newton part of a Hessian and the rest of it are defined by where a loss is cut: ℓ(f(θ)), with outputs f and ℓ a function
of them. Losses of this program say it by a method `parted`; a user's function, or an object that is called, by two attributes or
methods,

    outputs(model, batch)           a tensor, or a tuple, a list or a mapping of tensors
    loss_of_outputs(outputs, batch) what the loss itself returns of that batch

such that `loss(model, batch)` is `loss_of_outputs(outputs(model, batch), batch)`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

# ℓ''(f) u of a batch: (outputs, batch, u) to a tensor of the outputs' shape, of the sum of all examples' losses.
Second = Callable[[Tensor, Any, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Parted:
    """A loss in two steps.

    Attributes:
        outputs: Called as `outputs(model, batch)`; a tensor, or a nest of tensors.
        loss_of_outputs: Called as `loss_of_outputs(outputs, batch)`; returns what the loss returns. Outputs may be in float64
            where the batch is in float32.
        second: Where a closed form is known, the second derivative by the outputs, times a vector; the outputs are then one
            tensor with a row for each example.
    """

    outputs: Callable[[nn.Module, Any], Any]
    loss_of_outputs: Callable[[Any, Any], Any]
    second: Second | None = None


def parted(loss: Callable[..., Any]) -> Parted | None:
    """A loss in two steps; None where it does not say what its outputs are.

    Of a partial, each of the two functions gets the arguments that it takes.

    Example:
        >>> def loss(model, batch):
        ...     return loss_of_outputs(outputs(model, batch), batch)
        >>> def outputs(model, batch):
        ...     return model(batch)
        >>> def loss_of_outputs(outputs, batch):
        ...     return outputs.square().sum(1)
        >>> parted(loss) is None
        True
        >>> loss.outputs, loss.loss_of_outputs = outputs, loss_of_outputs
        >>> parted(loss).outputs is outputs
        True
    """
    own = getattr(loss, "parted", None)
    if callable(own):
        found: Parted | None = own()
        return found
    if isinstance(loss, functools.partial):
        inner = None if loss.args else parted(loss.func)
        return None if inner is None else _with_arguments(inner, loss.keywords)
    outputs, of_outputs = getattr(loss, "outputs", None), getattr(loss, "loss_of_outputs", None)
    if not callable(outputs) or not callable(of_outputs):
        return None
    return Parted(
        outputs=outputs, loss_of_outputs=of_outputs, second=getattr(loss, "second_of_outputs", None)
    )


def _with_arguments(whole: Parted, arguments: Mapping[str, Any]) -> Parted:
    return Parted(
        outputs=_taking(whole.outputs, arguments),
        loss_of_outputs=_taking(whole.loss_of_outputs, arguments),
        second=None if whole.second is None else _taking(whole.second, arguments),
    )


def _taking(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Callable[..., Any]:
    """A function with those of the arguments that it takes."""
    parameters = inspect.signature(function).parameters.values()
    every = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    names = {each.name for each in parameters}
    own = {name: value for name, value in arguments.items() if every or name in names}
    return functools.partial(function, **own) if own else function
