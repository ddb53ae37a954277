"""Options that change a field of a nested mapping, such as `--set grid.alpha.num=11`."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpi_landscape.configuration import yaml_text
from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import one_line, shortened, shown


@dataclass(frozen=True, kw_only=True)
class Override:
    """One option.

    Attributes:
        said: The option as given, for messages.
        key: Dotted path, such as "grid.alpha.num".
        value: What is set there.
    """

    said: str
    key: str
    value: Any


def parsed(text: str) -> Override:
    """An option of the form "dotted.key=value"; the value is YAML, and nothing stands for null.

    Raises:
        LandscapeError: There is no "=", an empty step in the key, or a value that is not YAML.
    """
    key, equals, value = text.partition("=")
    given = shortened(one_line(text, None))
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise LandscapeError(f"--set {given}: expected dotted.key=value, such as grid.alpha.num=11")
    return Override(
        said=f"--set {given}", key=key, value=yaml_text.parse(value, where=f"--set {shortened(key)}")
    )


def apply(
    values: Mapping[str, Any],
    overrides: Sequence[Override],
    *,
    expand: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """A changed copy of a nested mapping.

    Args:
        values: The mapping; left as it is.
        overrides: Applied in order; sections on the way that are absent or null are created.
        expand: Writes shorthands out after each change, so that the next can reach into them.

    Raises:
        LandscapeError: A key leads through something that is not a mapping.
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
                    f"{override.said}: {reached} is {shown(section)}, which has no fields; set {reached} itself"
                )
        section[last] = override.value
        changed = expand(changed)
    return changed
