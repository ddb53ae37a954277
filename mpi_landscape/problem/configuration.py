"""One YAML file, and options that override it, as a validated :class:`Configuration`; and back."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem import yaml_text
from mpi_landscape.problem.messages import listed, shown
from mpi_landscape.problem.overrides import Override, apply, parse_overrides
from mpi_landscape.problem.sections.plane import (
    AxisConfiguration,
    DirectionConfiguration,
    DirectionsConfiguration,
    GridConfiguration,
)
from mpi_landscape.problem.sections.sources import DataConfiguration, LossConfiguration, ModelConfiguration
from mpi_landscape.problem.sections.whole import Configuration
from mpi_landscape.problem.sections.work import (
    ComputeConfiguration,
    ScheduleConfiguration,
    TrainingConfiguration,
)
from mpi_landscape.problem.validation import validate

__all__ = [
    "AxisConfiguration",
    "ComputeConfiguration",
    "Configuration",
    "DataConfiguration",
    "DirectionConfiguration",
    "DirectionsConfiguration",
    "GridConfiguration",
    "LossConfiguration",
    "ModelConfiguration",
    "ScheduleConfiguration",
    "TrainingConfiguration",
    "from_mapping",
    "load",
    "load_text",
    "to_yaml",
]

_FIELDS = tuple(each.name for each in dataclasses.fields(Configuration))
_LARGEST_FILE = 2**20


def load(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Configuration:
    """Read a configuration file.

    Args:
        path: YAML file, UTF-8.
        overrides: "dotted.key=value" each, the value in YAML, applied in order.

    Returns:
        The configuration with every default filled in.

    Raises:
        LandscapeError: If the file cannot be read, does not parse, or says anything that is not valid;
            one line with the file (or --set), the dotted path, the value and what is valid.
    """
    where = os.fspath(path)
    try:
        content = Path(path).read_bytes() if Path(path).is_file() else _refused(Path(path), where)
    except OSError as error:
        raise LandscapeError(f"{where}: cannot be read ({error.strerror or error})") from error
    if len(content) > _LARGEST_FILE:
        raise LandscapeError(
            f"{where}: has {len(content)} bytes; a configuration has at most {_LARGEST_FILE}"
        )
    try:
        # -sig: editors on some systems begin a file with a byte-order mark.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LandscapeError(
            f"{where}: is not UTF-8 text (byte 0x{content[error.start]:02x} at offset {error.start})"
        ) from error
    return load_text(text, where=where, overrides=overrides)


def load_text(text: str, *, where: str, overrides: Sequence[str] = ()) -> Configuration:
    """Read a configuration from text.

    Args:
        text: YAML.
        where: What to call it in messages, for example the file it was found in.
        overrides: "dotted.key=value" each, the value in YAML, applied in order.

    Returns:
        The configuration with every default filled in.

    Raises:
        LandscapeError: As :func:`load`.
    """
    values = yaml_text.parse(text, where=where)
    if values is None:
        raise LandscapeError(f"{where}: is empty; expected a mapping with the fields {listed(_FIELDS)}")
    if not isinstance(values, dict):
        raise LandscapeError(
            f"{where}: is {shown(values)}; expected a mapping with the fields {listed(_FIELDS)}"
        )
    return from_mapping(values, where=where, overrides=overrides)


def from_mapping(values: Mapping[str, Any], *, where: str, overrides: Sequence[str] = ()) -> Configuration:
    """Validate nested plain mappings, as YAML gives them.

    Args:
        values: Section names to sections; ``loss: mse`` may stand for ``loss: {name: mse}`` (so may model
            and data), and an axis may be ``[min, max, num]``. Left as it is.
        where: What to call it in messages.
        overrides: "dotted.key=value" each, the value in YAML, applied in order.

    Returns:
        The configuration with every default filled in.

    Raises:
        LandscapeError: As :func:`load`.
    """
    changes = parse_overrides(overrides)
    merged = _expanded(apply(_expanded(values), changes, expand=_expanded))
    return validate(merged, Configuration, where=lambda path: _origin(path, where, changes))


def to_yaml(configuration: Configuration) -> str:
    """Write a configuration with every default spelled out.

    Args:
        configuration: Any configuration.

    Returns:
        YAML; ``load_text`` makes an equal configuration of it.

    Raises:
        LandscapeError: If an argument is not a plain YAML value.
    """
    return yaml_text.dump(_plain(configuration), where="configuration")


def _refused(path: Path, where: str) -> bytes:
    if path.is_dir():
        raise LandscapeError(f"{where}: is a folder; expected a YAML file")
    if path.exists():
        raise LandscapeError(f"{where}: is not a regular file; expected a YAML file")
    raise LandscapeError(f"{where}: no such file; expected a YAML file (working folder {Path.cwd()})")


def _expanded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Write shorthands out, so that an option such as grid.alpha.num=5 finds a mapping to change."""
    expanded = dict(values)
    for section in ("model", "data", "loss"):
        if isinstance(expanded.get(section), str):
            expanded[section] = {"name": expanded[section]}
    if isinstance(expanded.get("grid"), Mapping):
        expanded["grid"] = {
            name: dict(zip(("min", "max", "num"), axis, strict=True)) if _is_triple(axis) else axis
            for name, axis in expanded["grid"].items()
        }
    return expanded


def _is_triple(axis: Any) -> bool:
    return isinstance(axis, (list, tuple)) and len(axis) == 3


def _origin(path: str, where: str, changes: Sequence[Override]) -> str:
    """Say which of the file and the options set what stands at a path."""
    for change in reversed(changes):
        if path == change.key or path.startswith((f"{change.key}.", f"{change.key}[")):
            return f"--set {change.text}"
    # What does not fit together may come from both.
    inside = [change.text for change in changes if change.key.startswith(f"{path}.")]
    return f"{where} with --set {' --set '.join(inside)}" if path and inside else where


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
