"""Second derivatives of the named losses by the outputs, in closed form.

The Hessian of the cross-entropy of a softmax p by its logits is diag(p) − p pᵀ, whatever the label is (Bishop 2006, "Pattern
recognition and machine learning", section 4.3.4); that of a squared error is twice the identity. A hinge is piecewise linear, and
a negative log-likelihood is linear in log-probabilities: both have none.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cross_entropy(outputs: Tensor, vector: Tensor) -> Tensor:
    """P (u − p·u), with p the softmax over dimension 1, divided by the number of places that an example has.

    Args:
        outputs: (N, C) or (N, C, ...), logits.
        vector: (N, C, ...), u.

    Returns:
        (N, C, ...), the second derivative of the sum of all examples' losses, times u.

    Example:
        >>> cross_entropy(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]])).tolist()
        [[0.25, -0.25]]
    """
    shares = outputs.softmax(1)
    # Around the mean under p: of a network that is sure, u − p·u of the likely class is the small difference of large numbers.
    likely = outputs.argmax(1, keepdim=True)
    moved = vector - vector.gather(1, likely)
    return shares * (moved - (shares * moved).sum(1, keepdim=True)) / math.prod(outputs.shape[2:])


def mse(outputs: Tensor, vector: Tensor) -> Tensor:
    """2 u / m, with m numbers of an example's outputs."""
    return 2 * vector / math.prod(outputs.shape[1:])


def none(_: Tensor, vector: Tensor) -> Tensor:
    """Zero, of what is linear in the outputs, or piecewise so."""
    return torch.zeros_like(vector)


def hinge_by_parts(outputs: Tensor, targets: Tensor, *, margin: float = 1.0) -> Tensor:
    """`losses.hinge` of operations that torch differentiates twice, as it does not its own."""
    own = targets.long()[:, None]
    terms = (margin - outputs.gather(1, own) + outputs).clamp(min=0)
    return terms.scatter(1, own, 0.0).mean(1)


# By the names of `losses.LOSSES`.
SECOND = {"cross_entropy": cross_entropy, "mse": mse, "hinge": none, "nll": none}
