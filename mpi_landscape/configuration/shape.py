"""What can stand where in a nested dataclass, by place: sections, kinds of them, lists of them, fields that can be null."""

import dataclasses
import functools
import types
import typing
from collections.abc import Iterator
from typing import Any

Place = tuple[int | str, ...]


def hint_at(root: type, place: Place) -> Any:
    """The type, without its annotations, at steps such as ("training", "phases", 0); None where nothing is known."""
    hint: Any = root
    for step in place:
        if isinstance(step, int):
            hint = element_of(hint)
        else:
            known = (_hints(section) for section in sections_in(hint))
            hint = next((hints[step] for hints in known if step in hints), None)
    return hint


def sections_in(hint: Any) -> list[type]:
    """The dataclasses in `Section`, `Section | None` or `OneKind | Another`."""
    return [each for each in _options(hint) if isinstance(each, type) and dataclasses.is_dataclass(each)]


def kinds_of(hint: Any) -> dict[str, type]:
    """The dataclasses of a union by the word that their field `kind` has; empty where there are not several."""
    sections = sections_in(hint)
    return {section.kind: section for section in sections} if len(sections) > 1 else {}  # type: ignore[attr-defined]


def element_of(hint: Any) -> Any:
    """`Element` in `tuple[Element, ...]` or `tuple[Element, ...] | None`; None if there is none."""
    tuples = (option for option in _options(hint) if typing.get_origin(option) is tuple)
    return next((typing.get_args(option)[0] for option in tuples), None)


def field_names(hint: Any) -> list[str]:
    """The fields of a section, or of all kinds of it, each once."""
    names = (each.name for section in sections_in(hint) for each in dataclasses.fields(section))
    return list(dict.fromkeys(names))


def description(section: type, name: str) -> str:
    """What a field of a section says of itself in its metadata."""
    (found,) = (each for each in dataclasses.fields(section) if each.name == name)
    return str(found.metadata.get("description", "it has no default"))


def allows_null(root: type, place: Place) -> bool:
    """Whether null is a value of a field; False also where nothing is known."""
    return type(None) in _options(hint_at(root, place))


def scalar_fields(section: type, *, path: str) -> Iterator[str]:
    """Paths, such as "training.seed", of the fields that take a single value: no section, list or mapping."""
    for name, hint in _hints(section).items():
        inner = sections_in(hint)
        if inner:
            yield from scalar_fields(inner[0], path=f"{path}.{name}")
        elif not any(typing.get_origin(option) in (tuple, dict) for option in _options(hint)):
            yield f"{path}.{name}"


def _options(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


@functools.cache
def _hints(section: type) -> dict[str, Any]:
    hints = typing.get_type_hints(section)
    return {each.name: hints[each.name] for each in dataclasses.fields(section)}
