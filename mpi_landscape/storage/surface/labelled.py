"""Arrays with labelled axes, for those who work with xarray."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError

if TYPE_CHECKING:
    import xarray

# What a file says of its axes.
LONG_NAMES: Mapping[str, str] = {
    "alpha": "alpha: coordinate along the first direction",
    "beta": "beta: coordinate along the second direction",
    "repeat": "repeat: seed of the line's direction",
}


def labelled(
    values: Mapping[str, NDArray[Any]],
    axes: Mapping[str, NDArray[Any] | None],
    units: Mapping[str, str],
    attributes: Mapping[str, Any],
) -> xarray.Dataset:
    """An xarray.Dataset of arrays over those of the axes that there are, in their order.

    Raises:
        LandscapeError: xarray is not installed.
    """
    try:
        import xarray
    except ImportError as error:
        raise LandscapeError("to_xarray() needs xarray: pip install xarray") from error
    there = {name: axis for name, axis in axes.items() if axis is not None}
    return xarray.Dataset(
        {
            name: (tuple(there), value, {"units": units.get(name, ""), "long_name": name.replace("_", " ")})
            for name, value in values.items()
        },
        coords={name: (name, axis, {"long_name": LONG_NAMES[name]}) for name, axis in there.items()},
        attrs=dict(attributes),
    )
