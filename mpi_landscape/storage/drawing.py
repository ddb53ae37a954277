"""The way from a value to its picture, which nothing below the pictures knows of."""

from importlib import import_module
from types import ModuleType

from mpi_landscape.errors import LandscapeError


def drawing() -> ModuleType:
    """The module that draws single pictures.

    Raises:
        LandscapeError: matplotlib is not installed.
    """
    try:
        return import_module("plotting.asked.single")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "matplotlib":
            raise
        raise LandscapeError("plot() needs matplotlib: pip install matplotlib") from error
