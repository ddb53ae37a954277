"""What can stand where in a nested dataclass, by place: sections, lists of sections, fields that can be null."""

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator
from typing import Any

Place = tuple[int | str, ...]


def hint_at(root: type, place: Place) -> Any:
    """Look a type up.

    Args:
        root: A dataclass of dataclasses.
        place: Steps from it, such as ("training", "phases", 0).

    Returns:
        The type without its annotations; None where nothing is known.
    """
    hint: Any = root
    for step in place:
        hint = element_of(hint) if isinstance(step, int) else _hints(dataclass_in(hint)).get(str(step))
    return hint


def dataclass_in(hint: Any) -> type | None:
    """Find the dataclass in ``Section`` or ``Section | None``.

    Args:
        hint: A type.

    Returns:
        The dataclass; None if there is none.
    """
    return next(
        (each for each in _options(hint) if isinstance(each, type) and dataclasses.is_dataclass(each)), None
    )


def element_of(hint: Any) -> Any:
    """Find ``Element`` in ``tuple[Element, ...]`` or ``tuple[Element, ...] | None``.

    Args:
        hint: A type.

    Returns:
        The element's type; None if there is none.
    """
    tuples = (option for option in _options(hint) if typing.get_origin(option) is tuple)
    return next((typing.get_args(option)[0] for option in tuples), None)


def field_names(hint: Any) -> list[str]:
    """List the fields of a section.

    Args:
        hint: A type.

    Returns:
        In the order of the dataclass in it; empty if there is none.
    """
    section = dataclass_in(hint)
    return [] if section is None else [each.name for each in dataclasses.fields(section)]


def allows_null(root: type, place: Place) -> bool:
    """Say whether null is a value of a field.

    Args:
        root: A dataclass of dataclasses.
        place: Steps from it.

    Returns:
        False also where nothing is known.
    """
    return type(None) in _options(hint_at(root, place))


def scalar_fields(section: type, *, path: str) -> Iterator[str]:
    """Find the fields that take a single value: neither a section, nor a list, nor a mapping.

    Args:
        section: A dataclass of dataclasses.
        path: Where it stands, such as "training".

    Yields:
        Dotted paths, such as "training.schedule.factor".
    """
    for name, hint in _hints(section).items():
        inner = dataclass_in(hint)
        if inner is not None:
            yield from scalar_fields(inner, path=f"{path}.{name}")
        elif not any(typing.get_origin(option) in (tuple, dict) for option in _options(hint)):
            yield f"{path}.{name}"


def _options(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    return typing.get_args(hint) if union else (hint,)


@functools.cache
def _hints(section: type | None) -> dict[str, Any]:
    if section is None:
        return {}
    hints = typing.get_type_hints(section)
    return {each.name: hints[each.name] for each in dataclasses.fields(section)}
