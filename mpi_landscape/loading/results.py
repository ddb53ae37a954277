"""What a loss function returns: one value per example, or a mapping with `loss` and perhaps `correct` and other names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

LossFunction = Callable[[nn.Module, Any], Any]


def losses_of(result: Any) -> Tensor:
    """(N,), the loss of each example."""
    losses: Tensor = result["loss"] if isinstance(result, Mapping) else result
    return losses


def correct_of(result: Any) -> Tensor | None:
    """(N,), which examples are answered correctly; None where the loss function does not tell."""
    return result.get("correct") if isinstance(result, Mapping) else None
