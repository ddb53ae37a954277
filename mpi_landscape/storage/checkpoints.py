"""Checkpoints in the folder of one solution: what they are called, and that they are there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import IO

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.places import replacing

HISTORY = "history.h5"


def epoch_name(number: int) -> str:
    """The file of an epoch, 0 for the network before the first.

    Example:
        >>> epoch_name(7), epoch_name(12345)
        ('epoch_0007.pt', 'epoch_12345.pt')
    """
    return f"epoch_{number:04d}.pt"


def keep_whole(path: Path, save: Callable[[IO[bytes]], None]) -> None:
    """Write a file, such as one of torch.save, so that it is there whole or not at all.

    Args:
        path: Where; what is there is replaced.
        save: Writes it to a stream.

    Raises:
        LandscapeError: It cannot be written.
    """
    try:
        with replacing(path) as new, open(new.descriptor, "wb", closefd=False) as stream:
            save(stream)
    # A full disk is an OSError or, where torch's writer notices it, a RuntimeError.
    except (OSError, RuntimeError) as error:
        raise LandscapeError(
            f"{path}: cannot be written: {getattr(error, 'strerror', None) or error}"
        ) from error
