"""Texts in a file: of fixed length, where HDF5 has checksums on them.

Those of variable length lie in a heap that has none, and a turned bit in it can make HDF5 search it for ever.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray


def stored(value: Any) -> Any:
    """What h5py is to be given for the value of an attribute: a text as one of fixed length, others as they are."""
    # Not `[0]`: an element of the array would no longer say that it is UTF-8.
    return stored_all([value]).reshape(()) if isinstance(value, str) else value


def stored_all(values: Iterable[str]) -> NDArray[np.bytes_]:
    """Texts as an array of UTF-8, all of the length of the longest: (number of texts,)."""
    # A command line may hold bytes that are no UTF-8, which HDF5 does not take.
    encoded = [value.encode(errors="backslashreplace") for value in values]
    length = max([1, *map(len, encoded)])
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", length))


def attribute(item: Any, name: str) -> Any:
    """An attribute as h5py reads it, None where there is none; of lists that HDF5 keeps elsewhere their number alone, as a text.

    Those of variable length lie in a heap, where a thousand values may be the same hundred megabytes.

    Args:
        item: A file, a group or a dataset of h5py.
        name: Of the attribute.
    """
    if name not in item.attrs:
        return None
    found = item.attrs.get_id(name)
    kind, count = found.get_type(), found.get_space().get_simple_extent_npoints()
    is_text = kind.get_class() == h5py.h5t.STRING
    if kind.detect_class(h5py.h5t.VLEN) or (is_text and kind.is_variable_str() and count > 1):
        return f"{count} values of variable length"
    return item.attrs[name]


def plain(value: Any) -> str | None:
    """The text that h5py has read, of fixed or of variable length; None where it is no text."""
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return value if isinstance(value, str) else None
