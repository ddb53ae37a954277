"""What a file must be before anything in it is believed: anybody may have made it, and disks flip bits.

Readers name what they are about to read, with type and shape; what is not exactly that is refused before it is read.
Links that lead out of the file are not followed, and nothing takes more memory than the file can account for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mpi_landscape.errors import LandscapeError, printable
from mpi_landscape.storage.texts import attribute, plain

# What is compressed, or was never written, may claim to be larger than the file, but no larger than this in all: copies
# that other programs made are often compressed.
_MOST_UNFOLDED = 2**28
_LONGEST_REASON = 200
# A text of variable length in memory, without its letters.
_VARIABLE = 64
# Attributes that programs compute with, by the beginning of their names.
_OF_NUMBERS = ("certificate_", "precision_error")
_LARGEST_BATCH = 2**31 - 1

Shape = tuple[int | None, ...]


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Name the file where reading it goes wrong, whatever h5py raises then; a program's own errors pass.

    Raises:
        LandscapeError: In place of anything else.
    """
    try:
        yield
    except LandscapeError:
        raise
    # KeyError, ValueError, TypeError, OSError, RuntimeError, MemoryError: a damaged file makes h5py raise each of them.
    except Exception as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST_REASON]
        raise LandscapeError(
            f"{path}: is damaged ({text}); use another copy of the file, or --overwrite to compute it anew"
        ) from error


def check_names(path: Path, splits: str) -> tuple[str, ...]:
    """The names of the splits from their attribute.

    Raises:
        LandscapeError: One cannot be a part of the names of variables and pictures, or is there twice.
    """
    names = tuple(splits.split(", "))
    for name in names:
        if not (name.isidentifier() and name.isascii()):
            raise LandscapeError(f"{path}: is damaged: a split cannot be named {name[:80]!r}")
    if len(set(names)) < len(names):
        raise LandscapeError(f"{path}: is damaged: a split is listed twice")
    return names


def text(path: Path, file: h5py.File, name: str) -> str:
    """An attribute that is a text.

    Raises:
        LandscapeError: It is not there, or none.
    """
    value = plain(attribute(file, name))
    if value is None:
        raise LandscapeError(f"{path}: is damaged: its attribute {name} is no text")
    return value


def whole_numbers(path: Path, file: h5py.File, name: str) -> list[int]:
    """An attribute that is a whole number or several.

    Raises:
        LandscapeError: It is not there, or has other values.
    """
    value = np.asarray(attribute(file, name) if name in file.attrs else "")
    if value.dtype.kind not in "iu" or value.ndim > 1:
        raise LandscapeError(f"{path}: is damaged: its attribute {name} is no whole number")
    return [int(each) for each in value.reshape(-1)]


def check_attributes(path: Path, attributes: Mapping[str, Any]) -> None:
    """Refuse attributes that are not what programs compute with.

    Raises:
        LandscapeError: One is of another type, or missing beside the one that it belongs to.
    """
    for name, value in attributes.items():
        if name.startswith(_OF_NUMBERS) and (isinstance(value, bool) or not isinstance(value, (int, float))):
            raise LandscapeError(f"{path}: is damaged: its attribute {printable(name)} is no number")
        if name in ("title", "configuration", "engine") and not isinstance(value, str):
            raise LandscapeError(f"{path}: is damaged: its attribute {name} is no text")
        if name.startswith("certificate_") and name.endswith("_loss") and f"{name}_plain" not in attributes:
            raise LandscapeError(
                f"{path}: is damaged: it has {printable(name)} without {printable(name)}_plain"
            )
    size = attributes.get("batch_size", 1)
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= _LARGEST_BATCH:
        raise LandscapeError(f"{path}: is damaged: its attribute batch_size is no number of examples")
    if "precision_error" in attributes:
        for name in ("precision_error_points", "precision_error_examples"):
            if not math.isfinite(attributes.get(name, math.nan)):
                raise LandscapeError(f"{path}: is damaged: its attribute {name} is no number")


def check_datasets(path: Path, file: h5py.File, expected: Mapping[str, tuple[Shape, str]]) -> None:
    """Refuse datasets that are not what a reader is about to take them for.

    Args:
        path: The file, for messages.
        file: Open.
        expected: By name, the shape, None where any length will do, and the numpy type: `f8`, `i8`; `O` for texts.

    Raises:
        LandscapeError: One is absent, a link, of another shape or type, stored in other files, or all together would
            take more memory than the file accounts for.
    """
    claimed = 0
    for name, (shape, kind) in expected.items():
        dataset = _dataset(path, file, name)
        found = dataset.shape or ()
        if len(found) != len(shape) or any(
            wanted not in (None, own) for wanted, own in zip(shape, found, strict=True)
        ):
            raise LandscapeError(f"{path}: is damaged: {name} has shape {dataset.shape}, not {_words(shape)}")
        if not _is_of_kind(dataset.dtype, kind):
            raise LandscapeError(f"{path}: is damaged: {name} has type {dataset.dtype}, not {kind}")
        if dataset.size and not dataset.id.get_storage_size():
            raise LandscapeError(f"{path}: is damaged: {name} has no values")
        claimed += math.prod(dataset.shape) * dataset.dtype.itemsize
    size = path.stat().st_size
    most = max(_MOST_UNFOLDED, size)
    for name, (_, kind) in expected.items():
        if kind == "O" and claimed <= most:
            claimed += _length(file[name], most - claimed)
    if claimed > most:
        raise LandscapeError(f"{path}: is damaged: it claims to hold {claimed} bytes, in a file of {size}")


def holds(file: h5py.File, name: str) -> bool:
    """Whether a name is there, without following a link that it may be."""
    place = ""
    for step in name.split("/"):
        place = f"{place}/{step}" if place else step
        link = file.get(place, getlink=True)
        if not isinstance(link, h5py.HardLink):
            return link is not None
    return True


def _dataset(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    place = ""
    for step in name.split("/"):
        place = f"{place}/{step}" if place else step
        link = file.get(place, getlink=True)
        if link is None:
            raise LandscapeError(
                f"{path}: has lost its {name[:80]}, perhaps as a copy made by another program"
            )
        if not isinstance(link, h5py.HardLink):
            raise LandscapeError(
                f"{path}: {place} is a link, and links are not followed; give the file itself"
            )
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset):
        raise LandscapeError(f"{path}: is damaged: {name} is no dataset")
    if dataset.is_virtual or dataset.external:
        raise LandscapeError(f"{path}: {name} lies in other files, which are not read; give the file itself")
    return dataset


def _length(texts: h5py.Dataset, most: int) -> int:
    """What texts of variable length come to, or something above `most`: a million of them may be the same megabyte."""
    if not texts.id.get_type().is_variable_str():
        return 0
    length = 0
    for place in np.ndindex(texts.shape):
        length += _VARIABLE + len(texts[place])
        if length > most:
            break
    return length


def _is_of_kind(dtype: np.dtype[Any], kind: str) -> bool:
    if kind == "O":
        return h5py.check_string_dtype(dtype) is not None
    wanted = np.dtype(kind)
    return dtype.kind == wanted.kind and dtype.itemsize == wanted.itemsize


def _words(shape: Shape) -> str:
    return f"({', '.join('any' if length is None else str(length) for length in shape)})"
