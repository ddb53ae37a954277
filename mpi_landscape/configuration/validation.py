"""From plain mappings to dataclasses through pydantic, and from its findings to one line for a user."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError, WrapValidator
from pydantic_core import ErrorDetails, PydanticCustomError

from mpi_landscape.configuration import shape
from mpi_landscape.configuration.shape import Place
from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import either, listed, shortened, shown, suggestion

Section = TypeVar("Section")

_LONGEST_STEP = 80
# A misspelt field is also a missing one: what explains the most is said first.
_UNKNOWN = ("unexpected_keyword_argument", "invalid_key")


def expecting(text: str) -> WrapValidator:
    """What a type expects, such as "a whole number", in place of pydantic's own findings.

    It is the outermost (that is, last) metadata of an Annotated type.
    """

    def check(value: Any, validate: Callable[[Any], Any]) -> Any:
        try:
            return validate(value)
        # OverflowError: pydantic's float of a whole number above 1e308.
        except (ValidationError, OverflowError) as error:
            raise PydanticCustomError("expected", "{expected}", {"expected": text}) from error

    return WrapValidator(check)


def validate(
    values: Mapping[str, Any], section: type[Section], *, where: Callable[[str], str], besides: Sequence[str]
) -> Section:
    """Turn nested plain mappings into a nested dataclass, whose leaves are marked with `expecting`.

    The fields `besides`, at the top, were dealt with before, and are valid too; `where` leads from a dotted
    path to the file or option that set it.

    Raises:
        LandscapeError: Something does not fit; names the dotted path, the value and what is valid.
    """
    try:
        checked: Section = _adapter(cast("Any", section)).validate_python(dict(values))
        return checked
    except ValidationError as error:
        findings = error.errors(include_url=False)
    place, text = _explained(min(findings, key=lambda each: each["type"] not in _UNKNOWN), section, besides)
    more = f" (and {len(findings) - 1} more to correct)" if len(findings) > 1 else ""
    # An unknown or a missing field is set, or should be, where its section is.
    raise LandscapeError(f"{where(dotted(place))}: {text}{more}")


def dotted(place: Place) -> str:
    """A place as a path, such as "training.schedule.milestones[0]"; empty for the whole."""
    path = ""
    for step in place:
        name = shortened(str(step), _LONGEST_STEP)
        path += f"[{step}]" if isinstance(step, int) else f".{name}" if path else name
    return path


# To make one takes some milliseconds, and a sweep has thousands of members.
@functools.cache
def _adapter(section: Any) -> TypeAdapter[Any]:
    return TypeAdapter(section)


def _explained(finding: ErrorDetails, root: type, besides: Sequence[str]) -> tuple[Place, str]:
    """Where a finding of pydantic is, and what it is in words."""
    place, tag = _untagged(finding["loc"], root)
    kind, context = finding["type"], finding.get("ctx", {})
    if kind in _UNKNOWN or kind == "missing":
        return _of_fields(place, tag, root, besides, missing=kind == "missing")
    if kind == "union_tag_invalid":
        kinds = list(shape.kinds_of(shape.hint_at(root, place)))
        place = (*place, "kind")
        return place, f"{dotted(place)} is {shown(finding['input']['kind'])}; expected {either(kinds)}"
    path = dotted(place)
    if kind == "expected":
        return place, f"{path} is {shown(finding['input'])}; expected {context['expected']}"
    if kind == "value_error":
        error = context["error"]
        if getattr(error, "field", ""):
            return (*place, error.field), f"{path}.{error}"
        return place, f"{path}: {error}" if path else f"{error}"
    expected = _expected(root, place)
    valid = f"expected {expected}" if expected else finding["msg"]
    return place, f"{path} is {shown(finding['input'])}; {valid}"


def _untagged(place: Place, root: type) -> tuple[Place, str]:
    """A place without the step by which pydantic says as which kind of section it has read one; and that kind."""
    for number in range(len(place)):
        if shape.kinds_of(shape.hint_at(root, place[:number])):
            return place[:number] + place[number + 1 :], str(place[number])
    return place, ""


def _of_fields(
    place: Place, tag: str, root: type, besides: Sequence[str], *, missing: bool
) -> tuple[Place, str]:
    """A field that is missing, or one that should not be there."""
    *above, name = place
    section = shape.hint_at(root, tuple(above))
    parent, valid = dotted(tuple(above)), shape.field_names(section)
    if tag and (missing or name in valid):
        return tuple(above), f"{parent}: {_misfit(str(name), tag, shape.kinds_of(section), missing=missing)}"
    valid += () if above else besides
    parent = parent or "the configuration"
    if missing:
        return place, f"{parent} has no field '{name}', which it needs; its fields are {listed(valid)}"
    unknown = f"{parent} has unknown field '{shortened(str(name))}'"
    return place, f"{unknown}; valid fields are {listed(valid)}{suggestion(name, valid)}"


def _misfit(name: str, tag: str, kinds: Mapping[str, type], *, missing: bool) -> str:
    """A field that one kind of a section has, and another not."""
    own = shape.field_names(kinds[tag])
    if missing:
        return f"kind {tag} needs the field {name}: {shape.description(kinds[tag], name)}"
    shared = set(own).intersection(*(shape.field_names(each) for each in kinds.values()))
    valid = sorted(own, key=lambda each: each not in shared)
    return f"{name} does not belong to kind {tag}; valid fields are {listed(valid)}"


def _expected(root: type, place: Place) -> str:
    """What a section, or a list of them, should have been; empty for other fields."""
    hint = shape.hint_at(root, place)
    own = shape.field_names(hint)
    if own:
        shorthands = (getattr(section, "SHORTHAND", "") for section in shape.sections_in(hint))
        also = "".join(f", or {shorthand}" for shorthand in shorthands if shorthand)
        return f"a mapping with the fields {listed(own)}{also}"
    inside = shape.field_names(shape.element_of(hint))
    return f"a list of mappings with the fields {listed(inside)}" if inside else ""
