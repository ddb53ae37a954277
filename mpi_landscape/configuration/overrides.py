"""Options of the form ``dotted.key=value`` that change a nested mapping."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpi_landscape.configuration import yaml_text
from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import shortened, shown


@dataclass(frozen=True, kw_only=True)
class Override:
    """One option.

    Attributes:
        text: As given, for messages.
        key: Dotted path, such as "grid.alpha.num".
        value: The value, read as YAML.
    """

    text: str
    key: str
    value: Any


def parse_overrides(texts: Sequence[str]) -> tuple[Override, ...]:
    """Read options.

    Args:
        texts: "dotted.key=value" each; the value is YAML, and nothing stands for null.

    Returns:
        The same options in the same order.

    Raises:
        LandscapeError: If one has no "=", an empty step in its key, or a value that is not YAML.
    """
    return tuple(_parsed(text) for text in texts)


def apply(
    values: Mapping[str, Any],
    overrides: Sequence[Override],
    *,
    expand: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """Change a nested mapping.

    Args:
        values: The mapping; left as it is.
        overrides: Applied in order; sections on the way that are absent or null are created.
        expand: Writes shorthands out after each change, so that the next can reach into them.

    Returns:
        A changed copy.

    Raises:
        LandscapeError: If a key leads through something that is not a mapping.
    """
    changed = copy.deepcopy(dict(values))
    for override in overrides:
        *path, last = override.key.split(".")
        section: dict[str, Any] = changed
        for depth, step in enumerate(path):
            if section.get(step) is None:
                section[step] = {}
            section = section[step]
            if not isinstance(section, dict):
                reached = ".".join(path[: depth + 1])
                raise LandscapeError(
                    f"--set {override.text}: {reached} is {shown(section)}, which has no fields; "
                    f"set {reached} itself"
                )
        section[last] = override.value
        changed = expand(changed)
    return changed


def _parsed(text: str) -> Override:
    key, equals, value = text.partition("=")
    given = shortened(" ".join(text.split()))
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise LandscapeError(f"--set {given}: expected dotted.key=value, such as grid.alpha.num=11")
    return Override(text=given, key=key, value=yaml_text.parse(value, where=f"--set {shortened(key)}"))
