"""What a file of torch.save holds: a zip archive, or the form of before torch 1.6, in which everything follows on another."""

from __future__ import annotations

import mmap
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.pickled import archive, tensors
from mpi_landscape.problem.pickled.archive import Entry
from mpi_landscape.problem.pickled.machine import Machine
from mpi_landscape.problem.pickled.room import DamagedError, Room
from mpi_landscape.problem.pickled.tensors import Storage
from mpi_landscape.wording import shown

ZIP = b"PK\x03\x04"
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
_LATEST_VERSION = 10
_COUNT = struct.Struct("<q")
_LONGEST_WORD = 64


def read(path: Path, where: str, *, is_strict: bool = False) -> Any:
    """All values of a file, without running what it names.

    Tensors are the file itself, mapped into memory, and change with it no longer once they are written to. What is
    not read has an `Unread` in its place, or is refused where that `is_strict`.

    Raises:
        LandscapeError: It is compressed, TorchScript, nested too deeply, or stands for more than it holds.
        OSError: It cannot be read.
        DamagedError: It is no such file.
        ForeignError: It names Python objects that are refused.
    """
    mapped = mapped_bytes(path)
    content = memoryview(mapped)
    storage = torch.frombuffer(mapped, dtype=torch.uint8).untyped_storage()
    with _here_and_there(mapped):
        if bytes(content[:4]) == ZIP:
            return _of_archive(content, storage, Room(where, len(content), is_strict=is_strict))
        return _of_sequence(content, storage, lambda: Room(where, len(content), is_strict=is_strict))


@contextmanager
def _here_and_there(mapped: mmap.mmap) -> Iterator[None]:
    """Read a few bytes in front of every tensor: not the megabytes behind them, which systems read ahead."""
    if not hasattr(mmap, "MADV_RANDOM"):
        yield
        return
    mapped.madvise(mmap.MADV_RANDOM)
    try:
        yield
    finally:
        mapped.madvise(mmap.MADV_NORMAL)


def mapped_bytes(path: Path) -> mmap.mmap:
    """The bytes of a file, which is left as it is by whatever is written to them.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)


def _of_archive(content: memoryview, whole: torch.UntypedStorage, room: Room) -> Any:
    where = room.where
    entries = archive.entries(content, room)
    # It compresses its code.
    if "constants.pkl" in entries:
        raise LandscapeError(
            f"{where}: is a TorchScript archive; expected torch.save(model.state_dict(), path)"
        )
    compressed = next((name for name, each in entries.items() if not each.is_stored), None)
    if compressed is not None:
        raise LandscapeError(
            f"{where}: {shown(compressed)} in it is compressed; expected a checkpoint as torch.save leaves it"
        )
    if "data.pkl" not in entries:
        raise DamagedError("an archive without data.pkl")
    _check_version(_word(content, entries, "version") or _word(content, entries, ".data/version"))
    order = _word(content, entries, "byteorder") or "little"
    if order not in ("little", "big"):
        raise DamagedError("an unknown order of bytes")
    known: dict[str, Storage] = {}

    def storage(identifier: tuple[Any, ...]) -> Storage:
        kind, key, location, count = _identified(identifier)
        if key not in known:
            place = entries.get(f"data/{key}")
            size = count * kind.itemsize
            if location != "meta" and (place is None or size > place.num_bytes):
                raise DamagedError("a storage that is not all there")
            slice_ = None if place is None or location == "meta" else whole[place.start : place.start + size]
            if slice_ is not None and order != sys.byteorder:
                slice_.byteswap(kind)
            known[key] = Storage(dtype=kind, num_bytes=size, content=slice_)
        return known[key]

    pickled = entries["data.pkl"]
    return Machine(content[: pickled.stop], pickled.start, room=room, storage=storage).load()


def _of_sequence(content: memoryview, whole: torch.UntypedStorage, make_room: Callable[[], Room]) -> Any:
    """The values of a file in which pickles follow one another, and then the storages, whose places the last pickle names.

    The tensors come before the places: the pickle that holds them is read once to come behind it, and then once more.
    A pickle alone, as pickle.dump writes it, is its own value.
    """
    begin = 0
    for expected in (_MAGIC, _PROTOCOL, None):
        machine = _machine(content, begin, make_room())
        found = machine.load()
        if expected == _MAGIC and isinstance(found, Mapping) and machine.position == len(content):
            return found
        if type(found) is not dict if expected is None else type(found) is not int or found != expected:
            raise DamagedError("it does not begin as a file of torch.save")
        begin = machine.position
    claimed: dict[str, tuple[torch.dtype, int]] = {}

    def claim(identifier: tuple[Any, ...]) -> Storage:
        kind, key, _, count = _identified(identifier[:5])
        claimed.setdefault(key, (kind, count))
        return _part(identifier, *claimed[key], None)

    machine = _machine(content, begin, make_room(), claim)
    machine.load()
    machine = _machine(content, machine.position, make_room())
    places = _places(content, machine.load(), machine.position, claimed)

    def storage(identifier: tuple[Any, ...]) -> Storage:
        kind, count = claimed[identifier[2]]
        start = places[identifier[2]]
        return _part(identifier, kind, count, whole[start : start + count * kind.itemsize])

    return _machine(content, begin, make_room(), storage).load()


def _no_storage(_: tuple[Any, ...]) -> Storage:
    raise DamagedError("a storage where there is none")


def _machine(
    content: memoryview,
    start: int,
    room: Room,
    storage: Callable[[tuple[Any, ...]], Storage] = _no_storage,
) -> Machine:
    return Machine(content, start, room=room, storage=storage)


def _identified(identifier: tuple[Any, ...]) -> tuple[torch.dtype, str, str, int]:
    """Type, key, device and length of a storage, as torch.save describes it."""
    if len(identifier) != 5 or identifier[0] != "storage":
        raise DamagedError("a storage without its description")
    _, name, key, location, count = identifier
    if type(key) is not str or type(location) is not str or not tensors.is_count(count):
        raise DamagedError("a storage without its description")
    return tensors.storage_type(name), key, location, count


def _places(
    content: memoryview, keys: Any, position: int, claimed: Mapping[str, tuple[torch.dtype, int]]
) -> dict[str, int]:
    """Where the storages begin that follow one another, each after its length."""
    places: dict[str, int] = {}
    for key in keys if type(keys) is list else ():
        if type(key) is not str or key not in claimed or key in places:
            raise DamagedError("a storage that nothing is made of")
        kind, count = claimed[key]
        places[key] = position + _COUNT.size
        stop = places[key] + count * kind.itemsize
        if stop > len(content) or _COUNT.unpack_from(content, position)[0] != count:
            raise DamagedError("a storage that is not all there")
        position = stop
    if places.keys() != claimed.keys():
        raise DamagedError("a storage that is not there")
    return places


def _part(
    identifier: tuple[Any, ...], kind: torch.dtype, count: int, content: torch.UntypedStorage | None
) -> Storage:
    """A storage, or the part of it that the description asks for."""
    first, length = 0, count
    if len(identifier) == 6 and identifier[5] is not None:
        view = identifier[5]
        if type(view) is not tuple or len(view) != 3 or not all(map(tensors.is_count, view[1:])):
            raise DamagedError("a part of a storage without its place")
        _, first, length = view
    if first + length > count:
        raise DamagedError("a part beyond the end of its storage")
    size = kind.itemsize
    part = None if content is None else content[first * size : (first + length) * size]
    return Storage(dtype=kind, num_bytes=length * size, content=part)


def _word(content: memoryview, entries: Mapping[str, Entry], name: str) -> str:
    found = entries.get(name)
    if found is None:
        return ""
    return bytes(content[found.start : min(found.stop, found.start + _LONGEST_WORD)]).decode().strip()


def _check_version(version: str) -> None:
    if not version.isdecimal() or not 1 <= int(version) <= _LATEST_VERSION:
        raise DamagedError("an archive of an unknown version")
