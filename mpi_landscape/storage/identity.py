"""What defines a surface's numbers: two runs with the same identity may share a file, others may not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError

_PREFIX = "identity_"


def fingerprint(*arrays: NDArray[Any]) -> str:
    """SHA-256 over types, shapes and values, the first 16 hexadecimal digits."""
    whole = hashlib.sha256()
    for array in arrays:
        whole.update(f"{array.dtype.str} {array.shape} ".encode())
        whole.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return whole.hexdigest()[:16]


def as_attributes(identity: Mapping[str, str]) -> dict[str, str]:
    """An identity under the attribute names of a file."""
    return {f"{_PREFIX}{what}": text for what, text in identity.items()}


def of_attributes(attributes: Mapping[str, Any]) -> dict[str, str]:
    """The identity that a file's attributes hold."""
    return {
        name.removeprefix(_PREFIX): str(value)
        for name, value in attributes.items()
        if name.startswith(_PREFIX)
    }


def check_same(
    path: Path,
    attributes: Mapping[str, Any],
    now: Mapping[str, str],
    *,
    advice: str = "choose another --output, or --overwrite to replace it",
) -> None:
    """Refuse to continue another run's file.

    Args:
        path: The file.
        attributes: Its attributes.
        now: The identity of this run.
        advice: What a user may do.

    Raises:
        LandscapeError: They differ; names what, with both values.
    """
    stored = of_attributes(attributes)
    differing = [
        f"{what} (file: {stored.get(what, 'nothing')}; now: {now.get(what, 'nothing')})"
        for what in dict.fromkeys([*now, *stored])
        if not _agree(stored.get(what), now.get(what), what)
    ]
    if differing:
        raise LandscapeError(
            f"{path}: belongs to another run, which differs in {', '.join(differing)}; {advice}"
        )


def _agree(stored: str | None, now: str | None, what: str) -> bool:
    """Whether two texts are the same; of a loss, files of before have the name without the fingerprint that follows it."""
    if what == "loss" and stored is not None and now is not None and not stored.endswith("]"):
        now = now.partition(" [python ")[0]
    return stored == now
