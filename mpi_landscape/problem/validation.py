"""From plain mappings to dataclasses through pydantic, and from its findings to one line for a user."""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError, WrapValidator
from pydantic_core import ErrorDetails, PydanticCustomError

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.messages import listed, shown, suggestion

Section = TypeVar("Section")
Place = tuple[int | str, ...]

# A misspelt field is also a missing one: what explains the most is said first.
_UNKNOWN = ("unexpected_keyword_argument", "invalid_key")


def expecting(text: str) -> WrapValidator:
    """Mark a type with what it expects, in words, in place of pydantic's own findings.

    Args:
        text: For example "a whole number".

    Returns:
        The outermost (that is, last) metadata of an Annotated type.
    """

    def check(value: Any, validate: Callable[[Any], Any]) -> Any:
        try:
            return validate(value)
        # OverflowError: pydantic's float of a whole number above 1e308.
        except (ValidationError, OverflowError) as error:
            raise PydanticCustomError("expected", "{expected}", {"expected": text}) from error

    return WrapValidator(check)


def validate(values: Mapping[str, Any], section: type[Section], *, where: Callable[[str], str]) -> Section:
    """Turn nested plain mappings into a nested dataclass.

    Args:
        values: As read from YAML.
        section: A dataclass whose leaves are marked with :func:`expecting`.
        where: From a dotted path to the file or option that set it.

    Returns:
        An instance of the dataclass.

    Raises:
        LandscapeError: If anything does not fit; names the dotted path, the value and what is valid.
    """
    try:
        return TypeAdapter(section).validate_python(dict(values))
    except ValidationError as error:
        findings = error.errors(include_url=False)
    finding = min(findings, key=lambda each: each["type"] not in _UNKNOWN)
    more = f" (and {len(findings) - 1} more to correct)" if len(findings) > 1 else ""
    # An unknown or a missing field is set, or should be, where its section is.
    raise LandscapeError(f"{where(dotted(finding['loc']))}: {_explained(finding, section)}{more}")


def dotted(place: Place) -> str:
    """Write pydantic's location as a path.

    Args:
        place: For example ("training", "schedule", "milestones", 0).

    Returns:
        For example "training.schedule.milestones[0]"; empty for the whole.
    """
    path = ""
    for step in place:
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else step
    return path


def _explained(finding: ErrorDetails, root: type) -> str:
    place, kind, context = finding["loc"], finding["type"], finding.get("ctx", {})
    path = dotted(place)
    if kind in _UNKNOWN or kind == "missing":
        parent = dotted(place[:-1]) or "the configuration"
        valid = _fields(root, place[:-1])
        if kind == "missing":
            return f"{parent} has no field '{place[-1]}', which it needs; its fields are {listed(valid)}"
        guess = suggestion(place[-1], valid)
        return f"{parent} has unknown field '{place[-1]}'; valid fields are {listed(valid)}{guess}"
    if kind == "expected":
        return f"{path} is {shown(finding['input'])}; expected {context['expected']}"
    if kind == "value_error":
        return f"{path}: {context['error']}" if path else f"{context['error']}"
    fields = _fields(root, place)
    if fields:
        expected = f"a mapping with the fields {listed(fields)}{_shorthand(root, place)}"
        return f"{path} is {shown(finding['input'])}; expected {expected}"
    return f"{path} is {shown(finding['input'])}; {finding['msg']}"


def _fields(root: type, place: Place) -> list[str]:
    section = _section(root, place)
    return [each.name for each in dataclasses.fields(section)] if dataclasses.is_dataclass(section) else []


def _shorthand(root: type, place: Place) -> str:
    shorthand = getattr(_section(root, place), "SHORTHAND", "")
    return f", or {shorthand}" if shorthand else ""


def _section(root: type, place: Place) -> Any:
    section: Any = root
    for step in place:
        hints = typing.get_type_hints(section) if dataclasses.is_dataclass(section) else {}
        section = _dataclass_in(hints.get(str(step)))
    return section


def _dataclass_in(hint: Any) -> Any:
    """Find the dataclass in ``Section`` or ``Section | None``."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    return next((option for option in options if dataclasses.is_dataclass(option)), None)
