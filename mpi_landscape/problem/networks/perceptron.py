"""Networks without convolutions: the linear model and the multilayer perceptron."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.sizes import checked_count, checked_counts, checked_size
from mpi_landscape.wording import listed, shown

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "sigmoid": nn.Sigmoid}


def linear(*, input_size: Sequence[int] = (3, 32, 32), num_classes: int = 10) -> nn.Sequential:
    """Build an affine map of the pixels; with cross-entropy it is logistic regression, of convex landscape."""
    return mlp(hidden=(), input_size=input_size, num_classes=num_classes)


def mlp(
    *,
    hidden: Sequence[int] = (64,),
    activation: Literal["relu", "tanh", "gelu", "sigmoid"] = "relu",
    input_size: Sequence[int] = (3, 32, 32),
    num_classes: int = 10,
    log_probabilities: bool = False,
) -> nn.Sequential:
    """Build a multilayer perceptron with so many units in its hidden layers and an activation after each.

    The outputs are logits or, by a softmax at the end, the log-probabilities that the loss nll takes.
    """
    if not isinstance(log_probabilities, bool):
        raise LandscapeError(f"log_probabilities is {shown(log_probabilities)}; expected true or false")
    if activation not in _ACTIVATIONS:
        raise LandscapeError(f"activation is {shown(activation)}; expected one of {listed(_ACTIVATIONS)}")
    num_inputs = math.prod(checked_size(input_size))
    widths = (num_inputs, *checked_counts(hidden, "hidden"), checked_count(num_classes, "num_classes"))
    layers: list[nn.Module] = [nn.Flatten()]
    for num_in, num_out in itertools.pairwise(widths):
        layers += [nn.Linear(num_in, num_out), _ACTIVATIONS[activation]()]
    ends = [nn.LogSoftmax(dim=1)] if log_probabilities else []
    return nn.Sequential(*layers[:-1], *ends)
