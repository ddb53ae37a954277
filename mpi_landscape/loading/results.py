"""What a loss function returns: one value per example, or a mapping with `loss` and perhaps `correct` and other names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

LossFunction = Callable[[nn.Module, Any], Any]


def named(result: Any) -> Mapping[str, Any]:
    """What a loss function returned by name, `loss` among the names; each (N,), one value per example."""
    return result if isinstance(result, Mapping) else {"loss": result}


def losses_of(result: Any) -> Tensor:
    """(N,), the loss of each example."""
    losses: Tensor = named(result)["loss"]
    return losses


def correct_of(result: Any) -> Tensor | None:
    """(N,), which examples are answered correctly; None where the loss function does not tell."""
    return named(result).get("correct")
