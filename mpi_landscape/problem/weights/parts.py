"""Parts of tensors, read from their file without the rest of it.

A checkpoint's tensors are its file, mapped. To read all of many files through mappings would leave all of them in a
process's memory, and faults page by page; so it is found out where in its file a tensor lies, and what is wanted is read.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mpi_landscape.errors import LandscapeError

_MAPPINGS = Path("/proc/self/maps")
# Bytes at the beginning of a tensor that are compared: a file of the other byte order is mapped, and then changed.
_COMPARED = 4096
# Numbers that are converted at a time.
_PIECE = 2**18


@dataclass(frozen=True, kw_only=True)
class Part:
    """The real numbers of a tensor in C order, of which any run can be read; a complex one is two of them.

    Attributes:
        dtype: Of the numbers.
        size: How many.
        file: The file that they lie in, one after the other; "" where they are taken from memory.
        offset: Of the first, in bytes.
        tensor: The tensor, where they are taken from memory.
    """

    dtype: torch.dtype
    size: int
    file: str = ""
    offset: int = 0
    tensor: Tensor | None = None

    def read(self, start: int, into: Tensor, files: Files) -> None:
        """Read the numbers from `start` on, as many as fit into a 1D float32 tensor.

        Raises:
            LandscapeError: The file has become shorter, or cannot be read.
        """
        if self.tensor is not None:
            into.copy_(_run(self.tensor, start, start + len(into)))
            return
        at = self.offset + start * self.dtype.itemsize
        if self.dtype == torch.float32:
            files.fill(self.file, at, into)
            return
        for first in range(0, len(into), _PIECE):
            piece = into[first : first + _PIECE]
            numbers = torch.empty(len(piece), dtype=self.dtype)
            files.fill(self.file, at + first * self.dtype.itemsize, numbers)
            piece.copy_(numbers)


class Files:
    """Files that are read in parts, open for as long as the `with` lasts."""

    def __init__(self) -> None:
        self._open: dict[str, int] = {}

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_: object) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def fill(self, path: str, offset: int, numbers: Tensor) -> None:
        """Read as many bytes as a contiguous tensor has.

        Raises:
            LandscapeError: They are not there any more.
        """
        room = memoryview(numbers.view(torch.uint8).numpy().data)
        try:
            if path not in self._open:
                self._open[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            while len(room):
                count = os.preadv(self._open[path], [room], offset)
                if count == 0:
                    raise LandscapeError(f"{path}: has become shorter while it was read")
                room, offset = room[count:], offset + count
        except OSError as error:
            raise LandscapeError(f"{path}: cannot be read ({error.strerror or error})") from error


def parts_of(tensors: Mapping[str, Tensor]) -> dict[str, Part]:
    """Where the numbers of tensors of a checkpoint are, by name."""
    mappings, found = _mappings(), dict[str, Part]()
    changed: set[str] = set()
    with Files() as files:
        for name, given in tensors.items():
            real = _real(given)
            place = mappings.place(real)
            if place is not None and not _is_file(real, *place, files):
                changed.add(place[0])
            found[name] = Part(dtype=real.dtype, size=real.numel(), tensor=real)
            if place is not None:
                found[name] = Part(dtype=real.dtype, size=real.numel(), file=place[0], offset=place[1])
    return {
        name: part
        if part.file not in changed
        else Part(dtype=part.dtype, size=part.size, tensor=_real(tensors[name]))
        for name, part in found.items()
    }


def _real(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


@dataclass(frozen=True, kw_only=True)
class _Mappings:
    """The files that are mapped into this process.

    Attributes:
        starts: Where each begins in memory, rising.
        lines: What the system says of each.
    """

    starts: Sequence[int]
    lines: Sequence[str]

    def place(self, tensor: Tensor) -> tuple[str, int] | None:
        """The file of a tensor and its place there; None where it is no run of a file's bytes."""
        if not tensor.is_contiguous() or tensor.numel() == 0:
            return None
        first = tensor.data_ptr()
        number = bisect_right(self.starts, first) - 1
        fields = self.lines[number].split(maxsplit=5) if number >= 0 else []
        if len(fields) < 6 or not fields[5].startswith("/"):
            return None
        start, stop = (int(each, 16) for each in fields[0].split("-"))
        if first + tensor.numel() * tensor.element_size() > stop:
            return None
        with suppress(OSError):
            # Not one of the same name that has taken its place.
            if Path(fields[5]).stat().st_ino == int(fields[4]):
                return fields[5], int(fields[2], 16) + first - start
        return None


def _mappings() -> _Mappings:
    """As they are now; none where the system does not say them."""
    lines: list[str] = []
    with suppress(OSError):
        lines = _MAPPINGS.read_text(errors="surrogateescape").splitlines()
    return _Mappings(starts=[int(line.partition("-")[0], 16) for line in lines], lines=lines)


def _is_file(tensor: Tensor, path: str, offset: int, files: Files) -> bool:
    """Whether the first bytes of a tensor in memory are those of the file."""
    here = tensor.reshape(-1).view(torch.uint8)[:_COMPARED]
    there = torch.empty_like(here)
    files.fill(path, offset, there)
    return torch.equal(here, there)


def _run(tensor: Tensor, start: int, stop: int) -> Tensor:
    """Numbers of a tensor in C order, whatever its strides; no more is copied than these."""
    if tensor.is_contiguous():
        return tensor.reshape(-1)[start:stop]
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    run = np.asarray(tensor.view(whole).numpy().flat[start:stop])
    return torch.from_numpy(run).view(tensor.dtype)
