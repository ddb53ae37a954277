"""Archives of numpy's arrays by name (.npz), of which none is compressed: the arrays are the file itself, mapped."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.pickled import archive, files
from mpi_landscape.problem.pickled.archive import Entry
from mpi_landscape.problem.pickled.room import DamagedError, Room
from mpi_landscape.wording import one_line, shown

_ARRAY = ".npy"
# numpy refuses a longer header itself.
_LONGEST_HEADER = 10_000
_EACH = 1600


def is_archive_of_arrays(path: Path) -> bool:
    """Whether a file that begins as an archive has an array for its first entry."""
    with path.open("rb") as file:
        begin = file.read(30)
        name = file.read(int.from_bytes(begin[26:28], "little"))
    return begin[:4] == files.ZIP and name.endswith(_ARRAY.encode()) and b"/data/" not in name


def read(path: Path, where: str) -> dict[str, Tensor]:
    """Tensors by the names of the arrays.

    Raises:
        LandscapeError: It is damaged, compressed, or holds what are no numbers.
        OSError: It cannot be read.
    """
    mapped = files.mapped_bytes(path)
    content = memoryview(mapped)
    room = Room(where, len(content))
    try:
        entries = archive.named_entries(content, room)
        return {
            name.removesuffix(_ARRAY): _tensor(content, name, entry, room) for name, entry in entries.items()
        }
    except LandscapeError:
        raise
    # numpy parses a header as Python's literals, which can fail in many ways.
    except Exception as error:
        raise LandscapeError(
            f"{where}: is not an archive of arrays (.npz), or it is damaged ({one_line(error)})"
        ) from error


def array_of(content: np.ndarray[Any, Any]) -> Tensor:
    """An array of numbers as a tensor, without a copy where its bytes are in the machine's order."""
    native = content if content.dtype.isnative else content.astype(content.dtype.newbyteorder("="))
    return torch.from_numpy(native)


def _tensor(content: memoryview, name: str, entry: Entry, room: Room) -> Tensor:
    if not entry.is_stored:
        raise LandscapeError(
            f"{room.where}: {shown(name[:100])} in it is compressed; write it with numpy.savez, which does not compress"
        )
    room.take(_EACH)
    head = io.BytesIO(content[entry.start : min(entry.stop, entry.start + _LONGEST_HEADER + 12)])
    major, _ = np.lib.format.read_magic(head)
    read_header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, is_fortran, kind = read_header(head)
    if kind.kind not in "fiubc" or kind.hasobject:
        raise LandscapeError(
            f"{room.where}: {shown(name[:100])} in it is {kind}; expected an array of numbers"
        )
    count = 1
    for each in shape:
        count *= each
    start = entry.start + head.tell()
    if any(each < 0 for each in shape) or count * kind.itemsize != entry.stop - start:
        raise DamagedError("an array with other values than its shape says")
    flat = np.frombuffer(content[start : entry.stop], dtype=kind)
    return array_of(flat.reshape(shape, order="F" if is_fortran else "C"))
