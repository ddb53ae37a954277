"""What a loss function returns: one value per example, or a mapping with `loss` and perhaps other names.

`correct` is which examples are answered correctly, or how many of an example's labels. `count` is by how much each example
counts: `loss`, `correct` and further numbers are then sums, and a mean over the data is their sum divided by that of the counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

LossFunction = Callable[[nn.Module, Any], Any]


class Adapted:
    """A loss function of this program's that calls one of the user's, `function`."""

    function: Callable[..., Any]


def users_own(loss: Callable[..., Any]) -> Callable[..., Any]:
    """The function that the user gave, of whatever has been made of it."""
    return users_own(loss.function) if isinstance(loss, Adapted) else loss


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


def counts_of(result: Any) -> Tensor | None:
    """(N,), by how much each example counts; None where all count one."""
    return named(result).get("count")
