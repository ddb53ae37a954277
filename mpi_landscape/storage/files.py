"""HDF5 files of this program, of any kind: they appear whole, and open whenever their writer is killed.

All datasets that change are contiguous, of fixed size, and allocated before the file has its name; from then on only
raw values at fixed offsets change. `libver="latest"` must not be used, it makes a killed file refuse to open.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mpi_landscape.errors import LandscapeError

PROGRAM = "mpi_landscape"
_ADVICE = "choose another --output"


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
    # A link stays a link: the file that it leads to is replaced.
    real = path.resolve()
    temporary = real.with_name(f".{real.name}.{os.getpid()}.new")
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        _check_room(path, real.parent, size, advice)
        _reserve(temporary, size)
        # POSIX locks are not ours: a reader may look at any time, and a second writer is kept out by `lock`.
        with h5py.File(temporary, "w", locking=False) as file:
            yield file
            file.flush()
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(real)
    except (OSError, RuntimeError) as error:
        # A disk that fills up is an OSError or, when h5py notices it late, a RuntimeError; both quote the system.
        quoted = re.search(r"error message = '([^']*)'", str(error))
        cause = quoted[1] if quoted else getattr(error, "strerror", None) or error
        raise LandscapeError(f"{path}: cannot be written: {cause}; {advice}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _check_room(path: Path, folder: Path, size: int, advice: str) -> None:
    """Say how much is missing, which the system does not; it knows of quotas, too, so it is asked all the same."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise LandscapeError(
            f"{path}: takes {size / 1e9:.3g} GB, and its disk has {free / 1e9:.3g} GB free; {advice}"
        )


def _reserve(path: Path, size: int) -> None:
    """Meet a full disk here: where HDF5 meets it, the file cannot be closed and the process crashes (HDF5 2.0)."""
    with path.open("wb") as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)


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
        # A command line may hold bytes that are no UTF-8, which HDF5 does not take.
        file.attrs[name] = (
            value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
        )
    file.attrs["program"] = PROGRAM


def read_attributes(file: h5py.File) -> dict[str, Any]:
    """What a file says of itself, as plain Python values."""
    hidden = {"DIMENSION_LIST", "_NCProperties"}
    return {name: _plain(value) for name, value in file.attrs.items() if name not in hidden}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    return value.item() if isinstance(value, np.generic) else value


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
        parallel = {"driver": "mpio", "comm": comm} if comm is not None else {"locking": False}
        file = h5py.File(path, mode, **parallel)
    except OSError as error:
        refusal = _refusal(path, mode)
        if refusal is not None:
            raise LandscapeError(f"{path}: {refusal}" + f"; {advice}" * (mode != "r")) from error
        raise LandscapeError(f"{path}: is not {kind} (HDF5 cannot open it); {advice}") from error
    if file.attrs.get("program") != PROGRAM:
        file.close()
        raise LandscapeError(f"{path}: is an HDF5 file, but not one of {PROGRAM}; {advice}")
    return file


def _refusal(path: Path, mode: str) -> str | None:
    """The system's own words where it does not let a file be opened; HDF5 may say something else."""
    try:
        with path.open("rb" if mode == "r" else "rb+"):
            return None
    except OSError as error:
        return f"cannot be {'read' if mode == 'r' else 'written'}: {error.strerror}"
