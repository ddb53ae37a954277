"""Quantities of a value as its attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.wording import listed


class ByName:
    """What has quantities, each of which is also an attribute: `surface.train_loss`."""

    # What messages call it.
    _called: ClassVar[str]

    def _by_name(self) -> Mapping[str, NDArray[np.float64]]:
        """The quantities; none before there is anything, as when a value is copied or unpickled."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> NDArray[np.float64]:
        values = self._by_name()
        if name in values:
            return values[name]
        known = f"; its quantities are {listed(list(values))}" if values and not name.startswith("_") else ""
        raise AttributeError(f"{self._called} has no attribute {name!r}{known}", name=name, obj=self)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._by_name()]
