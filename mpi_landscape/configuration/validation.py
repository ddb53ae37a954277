"""From plain mappings to dataclasses through pydantic, and from its findings to one line for a user."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError, WrapValidator
from pydantic_core import ErrorDetails, PydanticCustomError

from mpi_landscape.configuration import shape
from mpi_landscape.configuration.shape import Place
from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import listed, shortened, shown, suggestion

Section = TypeVar("Section")

_LONGEST_STEP = 80
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


def validate(
    values: Mapping[str, Any],
    section: type[Section],
    *,
    where: Callable[[str], str],
    besides: Sequence[str] = (),
) -> Section:
    """Turn nested plain mappings into a nested dataclass.

    Args:
        values: As read from YAML.
        section: A dataclass whose leaves are marked with :func:`expecting`.
        where: From a dotted path to the file or option that set it.
        besides: Fields at the top that were dealt with before, and are valid too.

    Returns:
        An instance of the dataclass.

    Raises:
        LandscapeError: If anything does not fit; names the dotted path, the value and what is valid.
    """
    try:
        checked: Section = _adapter(cast("Any", section)).validate_python(dict(values))
        return checked
    except ValidationError as error:
        findings = error.errors(include_url=False)
    finding = min(findings, key=lambda each: each["type"] not in _UNKNOWN)
    more = f" (and {len(findings) - 1} more to correct)" if len(findings) > 1 else ""
    # An unknown or a missing field is set, or should be, where its section is.
    raise LandscapeError(f"{where(dotted(finding['loc']))}: {_explained(finding, section, besides)}{more}")


def dotted(place: Place) -> str:
    """Write pydantic's location as a path.

    Args:
        place: For example ("training", "schedule", "milestones", 0).

    Returns:
        For example "training.schedule.milestones[0]"; empty for the whole.
    """
    path = ""
    for step in place:
        name = shortened(str(step), _LONGEST_STEP)
        path += f"[{step}]" if isinstance(step, int) else f".{name}" if path else name
    return path


# To make one takes some milliseconds, and a sweep has thousands of members.
@functools.cache
def _adapter(section: Any) -> TypeAdapter[Any]:
    return TypeAdapter(section)


def _explained(finding: ErrorDetails, root: type, besides: Sequence[str]) -> str:
    place, kind, context = finding["loc"], finding["type"], finding.get("ctx", {})
    path = dotted(place)
    if kind in _UNKNOWN or kind == "missing":
        parent = dotted(place[:-1]) or "the configuration"
        valid = [*_fields(root, place[:-1]), *(besides if len(place) == 1 else ())]
        if kind == "missing":
            return f"{parent} has no field '{place[-1]}', which it needs; its fields are {listed(valid)}"
        guess = suggestion(place[-1], valid)
        return f"{parent} has unknown field '{shortened(str(place[-1]))}'; valid fields are {listed(valid)}{guess}"
    if kind == "expected":
        return f"{path} is {shown(finding['input'])}; expected {context['expected']}"
    if kind == "value_error":
        return f"{path}: {context['error']}" if path else f"{context['error']}"
    expected = _expected(root, place)
    if expected:
        return f"{path} is {shown(finding['input'])}; expected {expected}"
    return f"{path} is {shown(finding['input'])}; {finding['msg']}"


def _fields(root: type, place: Place) -> list[str]:
    return shape.field_names(shape.hint_at(root, place))


def _expected(root: type, place: Place) -> str:
    """What a section, or a list of them, should have been; empty for other fields."""
    hint = shape.hint_at(root, place)
    section = shape.dataclass_in(hint)
    if section is not None:
        shorthand = getattr(section, "SHORTHAND", "")
        also = f", or {shorthand}" if shorthand else ""
        return f"a mapping with the fields {listed(shape.field_names(section))}{also}"
    inside = shape.field_names(shape.element_of(hint))
    return f"a list of mappings with the fields {listed(inside)}" if inside else ""
