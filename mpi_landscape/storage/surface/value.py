"""A surface as it lies in a file, finished or not: the value that readers return and plots draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Surface:
    """Loss and accuracy over a grid: f(α, β) = L(θ* + αδ + βη), Li et al. 2018, arXiv:1712.09913.

    Attributes:
        path: Where it was read from.
        alpha: (num_alpha,) float64, in units of the first direction.
        beta: (num_beta,) float64, in units of the second direction; None for a line.
        values: Quantity name (`train_loss`, `test_accuracy`, `lambda_max`, ...) to an array of shape
            (num_alpha, num_beta), or (num_alpha,) for a line, float64, in its units. NaN where not done, but
            also where NaN *is* the result.
        done: Split name to a bool array of the same shape: True where the value is a result.
        units: Quantity name to its units as the file says them: `nats per example` for a loss, `1` for a fraction
            such as an accuracy; empty or absent where they are not known.
        attributes: Everything else the file says of itself.
        target: The relative error that the last run was asked for, 0 for exact values; None where the plan has no samples.
        evaluations: The share of the evaluations of an exact surface that were made, in [0, 1]; None likewise.
    """

    path: str
    alpha: NDArray[np.float64]
    beta: NDArray[np.float64] | None
    values: Mapping[str, NDArray[np.float64]]
    done: Mapping[str, NDArray[np.bool_]]
    units: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    target: float | None = None
    evaluations: float | None = None

    @property
    def quantities(self) -> list[str]:
        """The names of the quantities, in the order of the file."""
        return list(self.values)

    @property
    def is_line(self) -> bool:
        """Whether there is one direction only."""
        return self.beta is None

    @property
    def progress(self) -> float:
        """The share of the cells that are done, over all splits, in [0, 1]."""
        masks = list(self.done.values()) or [self.done_of(name) for name in self.values]
        return sum(int(done.sum()) for done in masks) / sum(done.size for done in masks)

    @property
    def relative_errors(self) -> dict[str, float]:
        """By split, the largest standard error relative to its own loss, over the points that are done; 0 where exact."""
        result = {}
        for split, done in self.done.items():
            stderr, loss = self.values.get(f"{split}_loss_stderr"), self.values.get(f"{split}_loss")
            if stderr is None or loss is None:
                continue
            # A loss that is not finite stays so, whatever examples come; one of zero that is certain has no error.
            unsure = done & np.isfinite(loss) & (stderr > 0)
            with np.errstate(divide="ignore"):
                result[split] = float(np.max(stderr[unsure] / np.abs(loss[unsure]), initial=0.0))
        return result

    def split_of(self, quantity: str) -> str | None:
        """The split that a quantity was computed on: `train` for `train_loss`; None for one of no split."""
        # The longest: `train_large_loss` belongs to `train_large`, though `train` may be there as well.
        fitting = [split for split in self.done if quantity.startswith(f"{split}_")]
        return max(fitting, key=len, default=None)

    def done_of(self, quantity: str) -> NDArray[np.bool_]:
        """Where a quantity's value is a result; where it is a number, for one of no split."""
        split = self.split_of(quantity)
        return ~np.isnan(self.values[quantity]) if split is None else self.done[split]
