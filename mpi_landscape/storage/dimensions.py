"""The named axes of a file, as netCDF-4 readers know them: every dimension is an HDF5 dimension scale."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h5py
from numpy.typing import NDArray

from mpi_landscape.storage.texts import stored


class Dimensions:
    """The dimension scales of a file, made when first named.

    Args:
        file: Open for writing.
    """

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._scales: dict[str, h5py.Dataset] = {}

    def coordinate(self, name: str, values: NDArray[Any], long_name: str) -> None:
        """A dimension with values along it, which is a variable of its own."""
        dataset = self._file.create_dataset(name, data=values)
        dataset.attrs["long_name"] = stored(long_name)
        dataset.make_scale(name)
        self._scales[name] = dataset

    def name(self, dataset: h5py.Dataset, names: Sequence[str], folder: str) -> None:
        """Name the axes of a dataset; the scales of new names are made in `folder`."""
        for axis, name in enumerate(names):
            place = name if name in ("alpha", "beta", "repeat") else folder + name
            if place not in self._scales:
                self._scales[place] = self._bare(place, dataset.shape[axis])
            dataset.dims[axis].attach_scale(self._scales[place])

    def _bare(self, place: str, size: int) -> h5py.Dataset:
        """A dimension without coordinates, in the words that netCDF-4 knows; it takes no space."""
        scale = self._file.create_dataset(place, shape=(size,), dtype="S1")
        scale.make_scale(f"This is a netCDF dimension but not a netCDF variable.{size:10d}")
        return scale
