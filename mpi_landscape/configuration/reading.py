"""YAML files, and options that override them, as validated configurations; and back."""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mpi_landscape.configuration import bases, several_checkpoints, sweeps, yaml_text
from mpi_landscape.configuration.layers import Layer, flattened, origin
from mpi_landscape.configuration.overrides import Override, apply, parsed
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.configuration.swept_fields import without_overridden
from mpi_landscape.configuration.validation import validate
from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import shown

# Of a field, in the order in which they apply: "dotted.key=value" with the value in YAML, or the value itself.
Overrides = Sequence[str | Override]


def load(path: str | os.PathLike[str], overrides: Overrides = ()) -> Configuration:
    """Read a configuration file, and the files that it builds on, with every default filled in.

    Raises:
        LandscapeError: The file cannot be read, does not parse, says something that is not valid, or has a sweep;
            one line with the file (or --set), the dotted path, the value and what is valid.
    """
    return _single(bases.read(path), overrides)


def load_surfaces(path: str | os.PathLike[str], overrides: Overrides = ()) -> tuple[Configuration, ...]:
    """Read a configuration file as `load` does, in which `model.checkpoint` may be a list.

    Returns:
        A configuration for every checkpoint in order, each with an output of its own: see `several_checkpoints.members`.

    Raises:
        LandscapeError: As `load`; or the list is none of names, or two would have the same output.
    """
    values, where = _prepared(bases.read(path), overrides)
    sweeps.refuse(values, where=where)
    found = several_checkpoints.members(values, where=where)
    return tuple(_validated(member, where) for member in found)


def load_members(path: str | os.PathLike[str], overrides: Overrides = ()) -> tuple[Configuration, ...]:
    """Read a configuration file that may have a sweep; a single member, where it has none.

    A list in place of a single value of `training`, and every list in `sweep`, which maps dotted fields to
    lists, is swept over. Options may be sweeps too, and end those over what they set.

    Returns:
        A configuration for every combination, in the order given, the last field varying fastest; each trains in a
        folder of its own below training.output, such as "<output>/batch_size=128,weight_decay=0.0005".

    Raises:
        LandscapeError: As `load`; or a sweep has no values, repeats one, is of more than 10,000 members, or the file
            names an output or a checkpoint that all members would share.
    """
    values, where = _prepared(bases.read(path), overrides)
    several_checkpoints.refuse(values, where=where)
    return tuple(_validated(member, where) for member in sweeps.members(values, where=where))


def load_all(
    paths: Sequence[str | os.PathLike[str]], overrides: Overrides = ()
) -> tuple[tuple[str, Configuration], ...]:
    """The file's name and a member of it, for all members of all files in order, as `load_members` reads them.

    Raises:
        LandscapeError: As `load_members`, or two would train in the same folder.
    """
    pairs = tuple((os.fspath(path), member) for path in paths for member in load_members(path, overrides))
    owners: dict[str, str] = {}
    for name, member in pairs:
        if member.training is None:
            continue
        folder = os.path.realpath(member.training.output)
        if folder in owners:
            raise LandscapeError(
                f"{name}: training.output is {shown(member.training.output)}, as in {owners[folder]}; "
                "expected a folder for each training"
            )
        owners[folder] = name
    return pairs


def load_text(
    text: str, *, where: str, overrides: Overrides = (), folder: Path | None = None
) -> Configuration:
    """Read a configuration as `load` does, from text; without a folder for its bases, they are refused."""
    return _single(bases.parse(text, where=where, folder=folder), overrides)


def from_mapping(values: Mapping[str, Any], *, where: str, overrides: Overrides = ()) -> Configuration:
    """Read a configuration as `load` does, from mappings such as YAML gives, or a script has them; a base is refused.

    Numbers and arrays of numpy or torch are plain numbers and lists.
    """
    return _single(bases.alone(_without_arrays(values, where), where=where), overrides)


def to_yaml(configuration: Configuration) -> str:
    """Write a configuration, which `load_text` reads again as an equal one.

    Every default is spelled out, but for those of a training that its optimizer decides.

    Raises:
        LandscapeError: An argument is not a plain YAML value.
    """
    return yaml_text.dump(_plain(configuration), where="configuration")


def _single(layers: Sequence[Layer], overrides: Overrides) -> Configuration:
    values, where = _prepared(layers, overrides)
    sweeps.refuse(values, where=where)
    several_checkpoints.refuse(values, where=where)
    (member,) = sweeps.members(values, where=where)
    return _validated(member, where)


def _prepared(layers: Sequence[Layer], overrides: Overrides) -> tuple[dict[str, Any], Callable[[str], str]]:
    """What the files and the options say together, and which of them said what."""
    changes = [parsed(each) if isinstance(each, str) else each for each in overrides]
    for change in changes:
        if change.key.split(".")[0] == "base":
            raise LandscapeError(f"{change.said}: base can be said in a file only")
    values = apply(flattened(layers), changes)
    values = without_overridden(values, [change.key for change in changes])
    return values, lambda path: _origin(path, layers, changes)


def _validated(member: sweeps.Member, where: Callable[[str], str]) -> Configuration:
    def named(path: str) -> str:
        swept = (place for key, place in member.places.items() if _is_inside(path, key))
        return f"{where(next(swept, path))}{f', member {member.name}' if member.name else ''}"

    return validate(member.values, Configuration, where=named, besides=bases.BESIDES).completed()


def _is_inside(path: str, key: str) -> bool:
    return path == key or path.startswith((f"{key}.", f"{key}["))


def _origin(path: str, layers: Sequence[Layer], changes: Sequence[Override]) -> str:
    """Say which of the files and the options set what stands at a path."""
    for change in reversed(changes):
        if _is_inside(path, change.key):
            return change.said
    # What does not fit together may come from both.
    inside = [change.said for change in changes if change.key.startswith(f"{path}.")]
    where = origin(path, layers)
    return f"{where} with {' '.join(inside)}" if path and inside else where


def _without_arrays(value: Any, where: str, depth: int = 0) -> Any:
    """A nest with plain numbers in place of those of numpy and torch, which this room does not know."""
    if depth > yaml_text.DEEPEST:
        raise LandscapeError(f"{where}: is nested more than {yaml_text.DEEPEST} deep")
    if isinstance(value, Mapping):
        return {
            _without_arrays(key, where, depth + 1): _without_arrays(each, where, depth + 1)
            for key, each in value.items()
        }
    if isinstance(value, (list, tuple, range)):
        return [_without_arrays(each, where, depth + 1) for each in value]
    # What has a number of axes, and gives itself as a list.
    return value.tolist() if hasattr(value, "ndim") and hasattr(value, "tolist") else value


def _plain(section: Any) -> Any:
    if isinstance(section, (tuple, list)):
        return [_plain(each) for each in section]
    if not dataclasses.is_dataclass(section):
        return section
    # A null that is the default says nothing; a null that is not (grid.beta) says all.
    return {
        each.name: _plain(value)
        for each in dataclasses.fields(section)
        if (value := getattr(section, each.name)) is not None or each.default is not None
    }
