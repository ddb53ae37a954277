"""The named losses as functions of outputs and targets, with one value per example, (N,).

Outputs are (N, C) floating point, and targets (N,) integers in [0, C), where a loss does not say otherwise.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def cross_entropy(outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the softmax of the outputs in nats, as torch.nn.CrossEntropyLoss for each example.

    The uniform distribution is mixed into the target with the weight `label_smoothing`, in [0, 1].
    """
    return F.cross_entropy(outputs, targets.long(), reduction="none", label_smoothing=label_smoothing)


def nll(outputs: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood in nats of outputs that are log-probabilities, as torch.nn.NLLLoss for each example."""
    return F.nll_loss(outputs, targets.long(), reduction="none")


def hinge(outputs: Tensor, targets: Tensor, *, margin: float = 1.0) -> Tensor:
    """Multi-class hinge of scores z and labels y, in units of z, as torch.nn.MultiMarginLoss for each example.

    Source: Weston and Watkins (1999), "Support vector machines for multi-class pattern recognition",
    divided by the number of classes: 1/C · Σ_{j≠y} max(0, margin − z_y + z_j).
    """
    return F.multi_margin_loss(outputs, targets.long(), margin=margin, reduction="none")


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared error, as torch.nn.MSELoss for each example: the mean over the outputs of an example.

    It is in squared units of the outputs, (N, ...) if the targets are floating point of the same shape, of which (N,)
    and (N, 1) are one; integers stand for their one-hot vectors.
    """
    if targets.dtype in INTEGERS:
        targets = F.one_hot(targets.long(), outputs.shape[1])
    difference = outputs - targets.to(outputs.dtype).reshape(outputs.shape)
    return difference.square().flatten(1).mean(1) if difference.ndim > 1 else difference.square()


LOSSES: dict[str, Callable[..., Tensor]] = {each.__name__: each for each in (cross_entropy, mse, hinge, nll)}
