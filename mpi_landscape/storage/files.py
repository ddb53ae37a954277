"""HDF5 files of this program, of any kind: they appear whole, and open whenever their writer is killed.

All datasets that change are contiguous, of fixed size, and allocated before the file has its name; from then on only
raw values at fixed offsets change. `libver="latest"` must not be used, it makes a killed file refuse to open. The format of
HDF5 1.8 does not, and has checksums on its metadata: with the earliest one, a single turned bit could move a dataset to
other bytes of the file without a word.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mpi_landscape.errors import LandscapeError, printable
from mpi_landscape.storage.patient import Patient, write_failure
from mpi_landscape.storage.places import real_place, remove_abandoned, replacing
from mpi_landscape.storage.soundness import damage_named
from mpi_landscape.storage.texts import attribute, plain, stored
from mpi_landscape.wording import volume

PROGRAM = "mpi_landscape"
FORMAT = ("v108", "v108")
_ADVICE = "choose another --output"
# Texts may lie in the file once for several attributes, and take this more.
_MOST_OF_ATTRIBUTES = 2**26
# What HDF5 says of a file that this process has open: in another mode, or with another use of locks.
_OPEN_HERE = ("already open", "locking flag values don't match")


@contextmanager
def appearing(path: Path, *, size: int, advice: str = _ADVICE) -> Iterator[h5py.File]:
    """A new file to fill in a `with`, moved into place at its end.

    The whole file appears at once, so a kill during creation leaves either the old state or the new one.

    Args:
        path: Where; an existing file is replaced.
        size: Bytes that it will take, or more.
        advice: What a user may do when it cannot be written.

    Raises:
        LandscapeError: The folder cannot be written.
    """
    try:
        real = real_place(path)
        real.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(real)  # nobody else makes it now, by `lock`
        _check_room(path, real.parent, size, advice)
        with replacing(real) as new:
            # Meet a full disk before anything is made.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(new.descriptor, 0, size)
                os.ftruncate(new.descriptor, 0)
            with Patient(new.descriptor, "rb+", closefd=False) as written:
                with h5py.File(written, "w", libver=FORMAT) as file:
                    yield file
                if written.failure is not None:
                    raise written.failure
    except (OSError, RuntimeError) as error:
        cause = write_failure(error) or getattr(error, "strerror", None) or error
        raise LandscapeError(f"{path}: cannot be written: {cause}; {advice}") from error


def _check_room(path: Path, folder: Path, size: int, advice: str) -> None:
    """Say how much is missing, which the system does not; it knows of quotas, too, so it is asked all the same."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise LandscapeError(
            f"{path}: cannot be written: takes {volume(size)}, and its disk has {volume(free)} free; {advice}"
        )


def allocated(
    file: h5py.File, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], empty: Any
) -> h5py.Dataset:
    """A contiguous dataset whose space is taken and filled now."""
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    settings.set_fill_time(h5py.h5d.FILL_TIME_ALLOC)
    return file.create_dataset(name, shape=shape, dtype=dtype, fillvalue=empty, dcpl=settings)


def write_attributes(file: h5py.File, attributes: Mapping[str, Any]) -> None:
    """Let a file say something of itself, and which program it is of."""
    for name, value in attributes.items():
        file.attrs[name] = stored(value)
    file.attrs["program"] = stored(PROGRAM)


def read_attributes(file: h5py.File) -> dict[str, Any]:
    """What a file says of itself, as plain Python values."""
    hidden = {"DIMENSION_LIST", "_NCProperties"}
    most = file.id.get_filesize() + _MOST_OF_ATTRIBUTES
    found: dict[str, Any] = {}
    for name in file.attrs:
        if name in hidden:
            continue
        value = attribute(file, name)
        most -= len(value) if isinstance(value, (str, bytes)) else getattr(value, "nbytes", 0)
        if most < 0:
            raise LandscapeError(f"{file.filename}: is damaged: its attributes are larger than the file")
        found[name] = _plain(value)
    return found


def readable(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes for people: no text of a file may steer the terminal that shows it, or pretend to be a line of ours."""
    return {printable(name): _readable(value, name == "configuration") for name, value in attributes.items()}


def _readable(value: Any, has_lines: bool) -> Any:
    if isinstance(value, list):
        return [_readable(each, has_lines) for each in value]
    if not isinstance(value, str):
        return value
    return printable(value) if has_lines else printable(value).replace("\n", "\\n").replace("\t", "\\t")


def _plain(value: Any) -> Any:
    """Numbers, texts and lists of them; whatever else an attribute can be in HDF5, as a text."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, (bool, int, float)):
        return value
    text = plain(value)
    return str(value) if text is None else text


def open_ours(path: Path, mode: str, kind: str, comm: Any = None, *, advice: str = _ADVICE) -> h5py.File:
    """Open a file of this program.

    Args:
        path: Where it is.
        mode: `r` or `r+`.
        kind: What it should be, for messages: `a surface file`.
        comm: For the parallel driver, the communicator; collective then.
        advice: What a user may do when it is none.

    Raises:
        LandscapeError: There is no such file, or it is no HDF5 file, or not one of ours.
    """
    try:
        if not path.exists():
            raise LandscapeError(f"{path}: there is no such file")
        # HDF5 would wait for ever for a named pipe.
        if not path.is_file():
            found = "a folder" if path.is_dir() else "no regular file"
            raise LandscapeError(f"{path}: is not {kind} ({found}); {advice}")
        parallel = {"driver": "mpio", "comm": comm} if comm is not None else {"locking": False}
        file = h5py.File(path, mode, **parallel)
    except LandscapeError:
        raise
    # A damaged file is mostly an OSError, but not always.
    except Exception as error:
        refusal = _refusal(path, mode)
        if refusal is not None:
            raise LandscapeError(f"{path}: {refusal}" + f"; {advice}" * (mode != "r")) from error
        if any(words in str(error) for words in _OPEN_HERE):
            raise LandscapeError(
                f"{path}: is open in this process already, by h5py or xarray; close it there"
            ) from error
        raise LandscapeError(f"{path}: is not {kind} (HDF5 cannot open it); {advice}") from error
    try:
        with damage_named(path):
            if plain(attribute(file, "program")) != PROGRAM:
                raise LandscapeError(f"{path}: is an HDF5 file, but not one of {PROGRAM}; {advice}")
    except LandscapeError:
        file.close()
        raise
    return file


def kind_of(path: str | Path) -> str | None:
    """What a file of this program is of, by its content: `surface` where it does not say; None of one that cannot be opened."""
    try:
        with open_ours(Path(path), "r", "a file of this program") as file, damage_named(Path(path)):
            return plain(attribute(file, "kind")) or "surface"
    except LandscapeError:
        return None


def _refusal(path: Path, mode: str) -> str | None:
    """The system's own words where it does not let a file be opened; HDF5 may say something else."""
    try:
        with path.open("rb" if mode == "r" else "rb+"):
            return None
    except OSError as error:
        return f"cannot be {'read' if mode == 'r' else 'written'}: {error.strerror}"
