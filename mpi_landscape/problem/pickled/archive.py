"""The entries of a zip archive of torch.save, of which none is compressed.

The libraries that read archives believe different parts of them. Here the directory at the end is read, once, and what it
says is held against the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from mpi_landscape.problem.pickled.room import DamagedError, Room

_END, _END_SIGN = struct.Struct("<4s4H2LH"), b"PK\x05\x06"
_LOCATOR, _LOCATOR_SIGN = struct.Struct("<4sLQL"), b"PK\x06\x07"
_END_64, _END_64_SIGN = struct.Struct("<4sQ2H2L4Q"), b"PK\x06\x06"
_ENTRY, _ENTRY_SIGN = struct.Struct("<4s6H3L5H2L"), b"PK\x01\x02"
_LOCAL, _LOCAL_SIGN = struct.Struct("<4s5H3L2H"), b"PK\x03\x04"
_LONGEST_COMMENT = 2**16
_IN_EXTRA, _OF_64_BITS = 0xFFFFFFFF, 1
# An entry with its name in a table.
_EACH = 512


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Where the bytes of an entry lie in the file; meaningless where they are compressed."""

    start: int
    num_bytes: int
    is_stored: bool

    @property
    def stop(self) -> int:
        """The place behind the last byte."""
        return self.start + self.num_bytes


def entries(content: memoryview, room: Room) -> dict[str, Entry]:
    """All entries by name, without the folder in front that has the archive's own name.

    Raises:
        LandscapeError: There are too many to be true.
        DamagedError: It is no archive, or lies beyond the end of the file.
    """
    found: dict[str, Entry] = {}
    folder: str | None = None
    for name, entry in _all(content, room):
        top, slash, rest = name.partition("/")
        folder = top if folder is None else folder
        if not slash or top != folder or rest in found:
            raise DamagedError("entries that torch.save does not write")
        found[rest] = entry
    return found


def named_entries(content: memoryview, room: Room) -> dict[str, Entry]:
    """All entries by name, of an archive of any kind.

    Raises:
        LandscapeError: There are too many to be true.
        DamagedError: It is no archive, lies beyond the end of the file, or has a name twice.
    """
    found: dict[str, Entry] = {}
    for name, entry in _all(content, room):
        if name in found:
            raise DamagedError("an archive with a name twice")
        found[name] = entry
    return found


def _all(content: memoryview, room: Room) -> Iterator[tuple[str, Entry]]:
    position, stop = _directory(content)
    while position < stop:
        room.take(_EACH)
        fields = _unpacked(_ENTRY, content, position, _ENTRY_SIGN)
        lengths = fields[10:13]
        name_at = position + _ENTRY.size
        name = bytes(content[name_at : name_at + lengths[0]]).decode()
        extra = content[name_at + lengths[0] : name_at + lengths[0] + lengths[1]]
        yield name, _entry(content, fields, extra)
        position = name_at + sum(lengths)


def _directory(content: memoryview) -> tuple[int, int]:
    """Where the directory of an archive begins and ends."""
    tail = bytes(content[max(0, len(content) - _END.size - _LONGEST_COMMENT) :])
    place = tail.rfind(_END_SIGN)
    if place < 0:
        raise DamagedError("an archive without an end")
    end = len(content) - len(tail) + place
    *_, size, start, _ = _unpacked(_END, content, end, _END_SIGN)
    before = end - _LOCATOR.size
    if before >= 0 and bytes(content[before : before + 4]) == _LOCATOR_SIGN:
        _, _, large, _ = _unpacked(_LOCATOR, content, before, _LOCATOR_SIGN)
        *_, size, start = _unpacked(_END_64, content, large, _END_64_SIGN)
    if start + size > end:
        raise DamagedError("an archive whose directory lies elsewhere")
    return start, start + size


def _entry(content: memoryview, fields: tuple[int, ...], extra: memoryview) -> Entry:
    _, _, _, flags, method, *_ = fields
    # In the order in which they stand in the extra field, where they need 64 bits.
    wide = [fields[9], fields[8], fields[16]]
    if _IN_EXTRA in wide:
        numbers = _wide_numbers(extra)
        wide = [next(numbers, -1) if value == _IN_EXTRA else value for value in wide]
    size, packed, place = wide
    is_stored = method == 0 and size == packed and not flags & 1
    if not is_stored:
        return Entry(start=0, num_bytes=0, is_stored=False)
    local = _unpacked(_LOCAL, content, place, _LOCAL_SIGN)
    start = place + _LOCAL.size + local[9] + local[10]
    if not 0 <= start <= start + size <= len(content):
        raise DamagedError("an entry beyond the end of the file")
    return Entry(start=start, num_bytes=size, is_stored=True)


def _wide_numbers(extra: memoryview) -> Iterator[int]:
    position = 0
    while position + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, position)
        if kind == _OF_64_BITS:
            usable = bytes(extra[position + 4 : position + 4 + size])
            return iter(struct.unpack(f"<{len(usable) // 8}Q", usable[: len(usable) // 8 * 8]))
        position += 4 + size
    return iter(())


def _unpacked(form: struct.Struct, content: memoryview, position: int, sign: bytes) -> tuple[int, ...]:
    """A record of an archive, whose first field is its sign."""
    if not 0 <= position <= len(content) - form.size:
        raise DamagedError("a part of the archive beyond the end of the file")
    fields = form.unpack_from(content, position)
    if fields[0] != sign:
        raise DamagedError("a part of the archive where there is none")
    return fields
