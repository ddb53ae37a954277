"""Networks without convolutions: the linear model and the multilayer perceptron."""

import itertools
import math
from collections.abc import Sequence
from typing import Literal

from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.sizes import checked_count, checked_counts, checked_size
from mpi_landscape.wording import listed, shown

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "sigmoid": nn.Sigmoid,
}


def linear(*, input_size: Sequence[int] = (3, 32, 32), num_classes: int = 10) -> nn.Sequential:
    """Build an affine map of the pixels; with cross-entropy, the landscape of logistic regression is convex.

    Args:
        input_size: (channels, height, width) of the images.
        num_classes: Number of outputs.

    Returns:
        A network from (N, channels, height, width) to (N, num_classes).
    """
    return mlp(hidden=(), input_size=input_size, num_classes=num_classes)


def mlp(
    *,
    hidden: Sequence[int] = (64,),
    activation: Literal["relu", "tanh", "gelu", "sigmoid"] = "relu",
    input_size: Sequence[int] = (3, 32, 32),
    num_classes: int = 10,
    log_probabilities: bool = False,
) -> nn.Sequential:
    """Build a multilayer perceptron.

    Args:
        hidden: Units of each hidden layer.
        activation: After each hidden layer.
        input_size: (channels, height, width) of the images.
        num_classes: Number of outputs.
        log_probabilities: Whether the outputs are the logarithms of probabilities, as the loss nll takes them, by a
            softmax at the end; logits without.

    Returns:
        A network from (N, channels, height, width) to (N, num_classes).
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
