"""Options that change a field of a nested mapping, such as `--set grid.alpha.num=11`."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpi_landscape.configuration import yaml_text
from mpi_landscape.configuration.layers import expanded, take_back
from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import one_line, shortened, shown


@dataclass(frozen=True, kw_only=True)
class Override:
    """One option: what was said, for messages, a path, such as "grid.alpha.num", and what is set there."""

    said: str
    key: str
    value: Any


def of_option(option: str, key: str, value: str) -> Override:
    """An option of its own, such as "--output", whose text is the field's value as it is and no YAML."""
    return Override(said=f"{option}={one_line(value)}", key=key, value=value)


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
    if key.count(".") >= yaml_text.DEEPEST:
        raise LandscapeError(f"--set {given}: leads more than {yaml_text.DEEPEST} deep")
    found = yaml_text.parse(value, where=f"--set {shortened(key)}")
    return Override(said=f"--set {given}", key=key, value=found)


def with_output(said: Sequence[str], output: str | None, key: str) -> list[str | Override]:
    """What `--set` says, and after it `--output`, of which a field is another in every program."""
    return [*said, *([] if output is None else [of_option("--output", key, output)])]


def apply(values: Mapping[str, Any], overrides: Sequence[Override]) -> dict[str, Any]:
    """A copy that one option after another has changed; sections on the way to a field are created.

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
        take_back(section, tuple(path), last)
        section[last] = override.value
        # The next may reach into a shorthand that this one has set.
        changed = expanded(changed)
    return changed
