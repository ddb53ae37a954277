"""Files of safetensors: a header of names, types and places, and then the tensors, which are the file itself, mapped."""

from __future__ import annotations

import struct
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.pickled.room import Room
from mpi_landscape.wording import amount, one_line, reason

_LENGTH = struct.Struct("<Q")
# The library takes some 300 bytes for an entry of 50: a longer header could stand for more than the file and 512 MiB. That of
# a network with 100,000 tensors has 12 MiB.
_LONGEST_HEADER = 2**25
# A tensor object with its name and its place.
_EACH = 1600


def read(path: Path, where: str) -> dict[str, Tensor]:
    """Tensors by name; the library holds the header against the file.

    Raises:
        LandscapeError: It is cut, its header says what cannot be, or there are more tensors than memory for them.
        OSError: It cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(_LENGTH.size)
    if len(first) < _LENGTH.size or (length := _LENGTH.unpack(first)[0]) > size - _LENGTH.size:
        raise LandscapeError(f"{where}: is not a safetensors file, or it is cut: its header is not all there")
    if length > _LONGEST_HEADER:
        raise LandscapeError(
            f"{where}: has a header of {amount(length)}; expected at most {amount(_LONGEST_HEADER)}"
        )
    room = Room(where, size)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = file.keys()
            room.take(_EACH * len(names))
            return {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise LandscapeError(
            f"{where}: is not a safetensors file, or it is damaged ({one_line(error).lower()})"
        ) from error
    # Of a type that torch has not, and of what the library does not say.
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise LandscapeError(f"{where}: cannot be read as a safetensors file ({reason(error)})") from error
