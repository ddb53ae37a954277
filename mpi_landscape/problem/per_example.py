"""The named losses as functions of outputs and targets, one value per example."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def cross_entropy(outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the softmax of the outputs, as torch.nn.CrossEntropyLoss for each example.

    Args:
        outputs: (N, C) floating point, logits.
        targets: (N,) integers in [0, C).
        label_smoothing: Weight of the uniform distribution mixed into the target, in [0, 1].

    Returns:
        (N,), nats.
    """
    return F.cross_entropy(outputs, targets.long(), reduction="none", label_smoothing=label_smoothing)


def nll(outputs: Tensor, targets: Tensor) -> Tensor:
    """Negative log-likelihood, as torch.nn.NLLLoss for each example.

    Args:
        outputs: (N, C) floating point, log-probabilities.
        targets: (N,) integers in [0, C).

    Returns:
        (N,), nats.
    """
    return F.nll_loss(outputs, targets.long(), reduction="none")


def hinge(outputs: Tensor, targets: Tensor, *, margin: float = 1.0) -> Tensor:
    """Multi-class hinge, as torch.nn.MultiMarginLoss for each example.

    Source: Weston and Watkins (1999), "Support vector machines for multi-class pattern recognition",
    divided by the number of classes: 1/C · Σ_{j≠y} max(0, margin − z_y + z_j).

    Args:
        outputs: (N, C) floating point, scores z.
        targets: (N,) integers in [0, C), labels y.
        margin: By which the label's score should exceed the others.

    Returns:
        (N,), in units of the scores.
    """
    return F.multi_margin_loss(outputs, targets.long(), margin=margin, reduction="none")


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    """Squared error, as torch.nn.MSELoss for each example: the mean over the outputs of an example.

    Args:
        outputs: (N, C) or, for floating-point targets, (N, ...) floating point.
        targets: (N,) integers in [0, C), which stand for their one-hot vectors, or floating point of the
            outputs' shape; (N,) and (N, 1) are the same.

    Returns:
        (N,), in squared units of the outputs.
    """
    if targets.dtype in INTEGERS:
        targets = F.one_hot(targets.long(), outputs.shape[1])
    difference = outputs - targets.to(outputs.dtype).reshape(outputs.shape)
    return difference.square().flatten(1).mean(1) if difference.ndim > 1 else difference.square()


LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "mse": mse,
    "hinge": hinge,
    "nll": nll,
}
