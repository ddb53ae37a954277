"""A configuration file and the files that it builds on, which its field `base` names."""

import dataclasses
import itertools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from mpi_landscape.configuration import yaml_text
from mpi_landscape.configuration.layers import Layer, expanded
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import listed, shown

# What a file can say that is dealt with before the sections are made.
BESIDES = ("base", "sweep")

_FIELDS = (*(each.name for each in dataclasses.fields(Configuration)), *BESIDES)
_LARGEST_FILE = 2**20
_MOST_LEVELS = 10
# A few lines could otherwise ask for billions of readings: ten times the same base at every level.
_MOST_FILES = 100


def read(path: str | os.PathLike[str]) -> tuple[Layer, ...]:
    """What a YAML file, UTF-8, and, recursively, its bases say, without `base`; the lowest first.

    The field `base` is a file, or a list of which later ones win, relative to the file that names it.

    Raises:
        LandscapeError: A file cannot be read, does not parse or is not a mapping, or the bases form a cycle, are
            more than 10 levels deep or more than 100.
    """
    where = os.fspath(path)
    values = _mapping(_text(Path(path), where), where)
    return _gathered(values, where=where, folder=Path(path).parent, above=(Path(path).resolve(),))


def parse(text: str, *, where: str, folder: Path | None) -> tuple[Layer, ...]:
    """Read text as `read` does a file; without a folder, to which they are relative, it can have no bases."""
    return _gathered(_mapping(text, where), where=where, folder=folder, above=())


def alone(values: Mapping[str, Any], *, where: str) -> tuple[Layer, ...]:
    """Nested plain mappings as a single layer; a base is refused."""
    return _gathered(values, where=where, folder=None, above=())


def _gathered(
    values: Mapping[str, Any], *, where: str, folder: Path | None, above: tuple[Path, ...]
) -> tuple[Layer, ...]:
    layers = _layers(values, where=where, folder=folder, above=above)
    gathered = tuple(itertools.islice(layers, _MOST_FILES + 1))
    if len(gathered) > _MOST_FILES:
        raise LandscapeError(f"{where}: builds on more than {_MOST_FILES - 1} files")
    return gathered


def _layers(
    values: Mapping[str, Any], *, where: str, folder: Path | None, above: tuple[Path, ...]
) -> Iterator[Layer]:
    """The bases before the file itself; `above` are the files that led here, this one last."""
    names = _names(values.get("base"), where)
    if names and folder is None:
        raise LandscapeError(f"{where}: base is {shown(values['base'])}; only a file can have one")
    if names and len(above) > _MOST_LEVELS:
        raise LandscapeError(f"{where}: base {names[0]} is more than {_MOST_LEVELS} levels deep")
    for name in names:
        path = Path(folder or ".", name)
        named = f"{path} (base of {where})"
        text = _text(path, named)
        if path.resolve() in above:
            cycle = " -> ".join(each.name for each in [*above[above.index(path.resolve()) :], path])
            raise LandscapeError(f"{where}: base {name} leads back to itself: {cycle}")
        below = (*above, path.resolve())
        yield from _layers(_mapping(text, named), where=str(path), folder=path.parent, above=below)
    yield Layer(where=where, values=expanded({key: each for key, each in values.items() if key != "base"}))


def _names(base: Any, where: str) -> list[str]:
    names = [] if base is None else base if isinstance(base, list) else [base]
    if not all(isinstance(name, str) and name and "\0" not in name for name in names):
        raise LandscapeError(f"{where}: base is {shown(base)}; expected a file, or a list of files")
    return names


def _mapping(text: str, where: str) -> Mapping[str, Any]:
    values = yaml_text.parse(text, where=where)
    if isinstance(values, dict):
        return values
    found = "empty" if values is None else shown(values)
    raise LandscapeError(f"{where}: is {found}; expected a mapping with the fields {listed(_FIELDS)}")


def _text(path: Path, where: str) -> str:
    try:
        content, size = _bytes(path) if path.is_file() else _refused(path, where)
    except OSError as error:
        raise LandscapeError(f"{where}: cannot be read ({error.strerror or error})") from error
    if len(content) > _LARGEST_FILE:
        raise LandscapeError(f"{where}: has {size} bytes; a configuration has at most {_LARGEST_FILE}")
    try:
        # -sig: editors on some systems begin a file with a byte-order mark.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LandscapeError(
            f"{where}: is not UTF-8 text (byte 0x{content[error.start]:02x} at offset {error.start})"
        ) from error


def _bytes(path: Path) -> tuple[bytes, int]:
    """What a file holds, as far as it can be a configuration, and how much it holds."""
    with path.open("rb") as file:
        content = file.read(_LARGEST_FILE + 1)
        # Files of /proc have no size.
        return content, max(len(content), os.fstat(file.fileno()).st_size)


def _refused(path: Path, where: str) -> NoReturn:
    if path.is_dir():
        raise LandscapeError(f"{where}: is a folder; expected a YAML file")
    if path.exists():
        raise LandscapeError(f"{where}: is not a regular file; expected a YAML file")
    raise LandscapeError(f"{where}: no such file; expected a YAML file (working folder {Path.cwd()})")
