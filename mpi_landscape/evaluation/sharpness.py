"""ε-sharpness: the greatest loss in a box around a minimum (Keskar et al. 2016, arXiv:1609.04836, metric 2.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

# A loss and its gradient, (m,) float64, at a displacement z of shape (m,).
Ascended = Callable[[Tensor], tuple[float, Tensor]]
# In units of the box's half width: how far off it starts, and the shortest step.
_START, _LAST = 0.1, 0.05


@dataclass(frozen=True, kw_only=True)
class Sharpness:
    """What was found.

    Attributes:
        epsilon: Of the box.
        loss: At its middle, f(x).
        greatest: The greatest loss that was found, at z = 0 or at a step; infinite where the loss is.
        steps: How many steps were made.
        settled: Whether the last ones did not move any more: z is at a corner, or at an edge, from which no step leads up.
        seed: Of the first displacement.
        numbers: Parameters that move, m.
    """

    epsilon: float
    loss: float
    greatest: float
    steps: int
    settled: bool
    seed: int
    numbers: int

    @property
    def sharpness(self) -> float:
        """φ = (max f(x + z) − f(x)) / (1 + f(x)) · 100: a lower bound, as the greatest loss may be elsewhere in the box."""
        return (self.greatest - self.loss) / (1 + self.loss) * 100


def sharpness_of(
    ascended: Ascended, middle: Tensor, *, epsilon: float, steps: int = 20, seed: int = 1
) -> Sharpness:
    """Climb in the box C_ε = {z : −ε(|x_i| + 1) ≤ z_i ≤ ε(|x_i| + 1)}, in the whole space.

    By projected gradient ascent, in units of the box's half widths: first along the gradient, as far as its largest entry
    leads from the middle to a side, which turns to the directions in which the loss rises most; in the second half along its
    signs, by ever shorter steps, which leads to a corner. It starts at a displacement that is drawn uniformly from the inner
    tenth of the box: the gradient at a minimum says nothing. Of the many corners another seed may find a higher one.

    Args:
        ascended: The loss at x + z and its gradient by z.
        middle: x, (m,) float64, m at least 1.
        epsilon: More than 0.
        steps: At most so many gradients, at least 1.
        seed: Of the start.

    Example:
        The loss z²/2 in one dimension around x = 3 is greatest at an end of the box, at ε(|x| + 1) = 0.4:

        >>> found = sharpness_of(lambda z: (float(z @ z) / 2, z), torch.tensor([3.0], dtype=torch.float64), epsilon=0.1)
        >>> round(found.greatest, 10), round(found.sharpness, 10), found.settled
        (0.08, 8.0, True)
    """
    half = epsilon * (middle.abs() + 1)
    generator = torch.Generator().manual_seed(seed)
    drawn = 2 * torch.rand(len(middle), generator=generator, dtype=torch.float64).to(middle.device) - 1
    share = _START * drawn
    loss, _ = ascended(torch.zeros_like(middle))
    greatest, made, settled = loss, 0, False
    for made in range(1, steps + 1):
        found, gradient = ascended(share * half)
        if found > greatest:
            greatest = found
        # Where the loss is not finite there is no way up.
        if not math.isfinite(found) or not bool(gradient.isfinite().all()):
            break
        scaled = gradient * half
        if made <= steps // 2:
            way = scaled / scaled.abs().max().clamp_min(torch.finfo(torch.float64).tiny)
        else:
            way = max(_LAST, 2 * (1 - made / steps)) * scaled.sign()
        moved = (share + way).clamp(-1, 1)
        settled = torch.equal(moved, share)
        if settled:
            break
        share = moved
    return Sharpness(
        epsilon=epsilon,
        loss=loss,
        greatest=greatest,
        steps=made,
        settled=settled,
        seed=seed,
        numbers=len(middle),
    )
