"""Surfaces with a known form, never square and never symmetric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mpi_landscape.storage.surface.value import Surface

ALPHA = np.linspace(-1.0, 1.5, 26)
BETA = np.linspace(-0.5, 1.2, 18)
MINIMUM = (0.5, 0.3)
CURVATURES = (1.0, 4.0)


def bowl(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    return CURVATURES[0] * (alpha - MINIMUM[0]) ** 2 + CURVATURES[1] * (beta - MINIMUM[1]) ** 2


@pytest.fixture
def planted() -> Callable[..., Surface]:
    """Make a surface; by default a bowl whose lowest grid point is (0.5, 0.3)."""

    def make(
        *,
        alpha: np.ndarray = ALPHA,
        beta: np.ndarray | None = BETA,
        loss: Callable[..., np.ndarray] | np.ndarray = bowl,
        done: np.ndarray | None = None,
        path: str = "planted.h5",
        **attributes: Any,
    ) -> Surface:
        axes = [alpha] if beta is None else [alpha, beta]
        places = np.meshgrid(*axes, indexing="ij")
        values = loss if isinstance(loss, np.ndarray) else loss(*places)
        done = np.ones(values.shape, dtype=bool) if done is None else done
        quantities = {
            "train_loss": values,
            "train_accuracy": np.exp(-np.abs(values)),
            "test_loss": values + 0.25,
            "test_accuracy": np.exp(-np.abs(values) - 0.1),
        }
        return Surface(
            path=path,
            alpha=alpha,
            beta=beta,
            values={name: np.where(done, array, np.nan) for name, array in quantities.items()},
            done={"train": done, "test": done},
            attributes=attributes,
        )

    return make
