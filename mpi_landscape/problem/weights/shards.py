"""Weights in several files, of which an index says which tensor is in which: `model.safetensors.index.json` and its like."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import amount, reason, shown

# That of a network of 100,000 tensors has 10 MiB; parsed, an index of this size stays within 512 MiB.
_LARGEST_INDEX = 2**24
INDEX = ".index.json"
_LONGEST_NAME = 255


def read(index: Path, where: str, read_one: Callable[[Path, str], Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of all files that an index names.

    Args:
        index: The index, beside its files.
        where: What to call it.
        read_one: Reads a file, named as in the second argument.

    Raises:
        LandscapeError: The index is none, leads out of its folder, or is not what the files hold.
    """
    places = _places(index, where)
    found: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        here = f"{where}: {shown(name)}"
        shard = _inside(index.parent, name, here)
        held = read_one(shard, str(shard))
        twice = next((each for each in held if places.get(each) != name and each in places), None)
        if twice is not None:
            raise LandscapeError(
                f"{here} holds {shown(twice[:100])}, which the index places in {shown(places[twice])}; "
                f"expected each tensor in one file"
            )
        extra = next((each for each in held if each not in places), None)
        if extra is not None:
            raise LandscapeError(f"{here} holds {shown(extra[:100])}, which the index does not name")
        found.update(held)
    absent = next((each for each in places if each not in found), None)
    if absent is not None:
        raise LandscapeError(
            f"{where}: {shown(places[absent])} does not hold {shown(absent[:100])}, which the index places there"
        )
    return found


def _places(index: Path, where: str) -> dict[str, str]:
    size = index.stat().st_size
    if size > _LARGEST_INDEX:
        raise LandscapeError(
            f"{where}: is an index of {amount(size)}; expected at most {amount(_LARGEST_INDEX)}"
        )
    try:
        content = json.loads(index.read_text(encoding="utf-8"), object_pairs_hook=_each_once)
    # RecursionError: brackets in brackets.
    except (OSError, ValueError, RecursionError) as error:
        raise LandscapeError(f"{where}: is not an index of shards ({reason(error)})") from error
    places = content.get("weight_map") if isinstance(content, dict) else None
    if (
        not isinstance(places, dict)
        or not places
        or not all(isinstance(each, str) for each in places.values())
    ):
        raise LandscapeError(
            f"{where}: is not an index of shards: it has no weight_map from names of tensors to files"
        )
    return places


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name stands in it twice")
    return made


def _inside(folder: Path, name: str, here: str) -> Path:
    """A file beside the index; links lead at most to where the cache of the Hugging Face hub keeps the files of a snapshot."""
    path = folder / name
    if (
        Path(name).name != name
        or "\0" in name
        or name in ("", ".", "..")
        or len(name.encode()) > _LONGEST_NAME
    ):
        raise LandscapeError(
            f"{here} is not in the folder of the index; expected the name of a file beside it"
        )
    if not path.exists():
        raise LandscapeError(f"{here} is missing; expected every file of the index beside it")
    target, home = path.resolve(), folder.resolve()
    snapshots = next((each for each in (home, *home.parents) if each.name == "snapshots"), None)
    blobs = None if snapshots is None else snapshots.parent / "blobs"
    if target.parent != home and target.parent != blobs:
        raise LandscapeError(f"{here} is a link out of the folder of the index; expected the file itself")
    return path
