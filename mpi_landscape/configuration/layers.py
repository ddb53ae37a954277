"""Several nested mappings, one over another, as one; and which of them said what."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.configuration.shape import Place, allows_null
from mpi_landscape.wording import listed

# Sections that say what they mean by a name or by a target: who says one takes the other back.
_BY_NAME = ("model", "data", "loss")
_OTHER = {"name": "target", "target": "name"}
# Of an axis: it has ends, or they are found.
_ENDS = {"auto": ("min", "max"), "min": ("auto",), "max": ("auto",)}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one file says, sections by name with shorthands written out, and what to call it in messages."""

    where: str
    values: Mapping[str, Any]


def expanded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Write shorthands out, so that what lies over them, such as grid.alpha.num=5, finds a mapping to change.

    In the copy a name is `{name: ...}`, an axis of three numbers `{min: ..., max: ..., num: ...}`, one that is `auto`
    `{auto: true}`, and a sweep has dotted keys only.
    """
    result = dict(values)
    for section in _BY_NAME:
        if isinstance(result.get(section), str):
            result[section] = {"name": result[section]}
    if isinstance(result.get("grid"), Mapping):
        result["grid"] = {name: _expanded_axis(axis) for name, axis in result["grid"].items()}
    if isinstance(result.get("sweep"), Mapping):
        result["sweep"] = _flat(result["sweep"])
    return result


def merged(under: Mapping[str, Any], over: Mapping[str, Any], *, place: Place = ()) -> dict[str, Any]:
    """A new mapping: one nested mapping over another, shorthands written out in both.

    Mappings are merged key by key, and anything else is replaced. A null takes back what lies under it: it stays as
    null where that is a value of its own (grid.beta), and otherwise the key goes, so that the default holds again. A
    name takes back a target, and a target a name; so do the ends of an axis and `auto`, and another kind of direction all
    that was said of the one before. No inner mapping is shared with `over`.
    """
    kind = over.get("kind")
    is_other = (
        len(place) == 2 and place[0] == "directions" and kind not in (None, under.get("kind", "random"))
    )
    result = {} if is_other else dict(under)
    for given in over:
        if over[given] is not None:
            take_back(result, place, given)
    if len(place) == 1 and place[0] in _BY_NAME:
        for given, other in _OTHER.items():
            if over.get(given) is not None:
                result.pop(other, None)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(value, Mapping):
            below = below if isinstance(below, Mapping) else {}
            result[key] = merged(below, value, place=(*place, key))
        elif value is None and below is not None and not allows_null(Configuration, (*place, key)):
            del result[key]
        else:
            result[key] = value
    return result


def take_back(section: dict[str, Any], place: Place, given: str) -> None:
    """What a field of the section at a place, said anew, says no more: of an axis it is its ends, or that they are found."""
    if len(place) == 2 and place[0] == "grid":
        for other in _ENDS.get(given, ()):
            section.pop(other, None)


def flattened(layers: Sequence[Layer]) -> dict[str, Any]:
    """All layers, the lowest first, over one another."""
    nothing: dict[str, Any] = {}
    return functools.reduce(merged, (layer.values for layer in layers), nothing)


def origin(path: str, layers: Sequence[Layer]) -> str:
    """Which layer, of which the lowest comes first, set what stands at a path.

    A path is dotted, such as "training.schedule.milestones[0]", and empty for the whole. It was set by the
    highest layer that says it, or for a section by all that contribute, such as "mine.yaml over base.yaml".
    What none says is missing from the highest, and from those that have the section around it.
    """
    saying = [layer for layer in layers if _found(layer.values, path)]
    if saying and not isinstance(_found(saying[-1].values, path)[0], Mapping):
        return saying[-1].where
    if not saying:
        while not saying:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
            saying = [layer for layer in layers if _found(layer.values, path)]
        saying.append(layers[-1])
    highest, *others = dict.fromkeys(layer.where for layer in reversed(saying))
    return f"{highest} over {listed(others)}" if others else highest


def _expanded_axis(axis: Any) -> Any:
    if axis == "auto":
        return {"auto": True}
    is_triple = isinstance(axis, (list, tuple)) and len(axis) == 3
    return dict(zip(("min", "max", "num"), axis, strict=True)) if is_triple else axis


def _flat(sweep: Mapping[Any, Any]) -> dict[Any, Any]:
    flat: dict[Any, Any] = {}
    for key, value in sweep.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}.{inner}": each for inner, each in _flat(value).items()}
        else:
            flat[key] = value
    return flat


def _found(values: Any, path: str) -> list[Any]:
    """What stands at a path, if anything; a key may itself have dots."""
    if not path:
        return [values]
    pairs: list[tuple[str, Any]] = []
    if isinstance(values, Mapping):
        pairs = [(str(key), value) for key, value in values.items()]
    elif isinstance(values, (list, tuple)):
        pairs = [(f"[{number}]", value) for number, value in enumerate(values)]
    for key, value in pairs:
        rest = path.removeprefix(key)
        if path.startswith(key) and (not rest or rest[0] in ".["):
            found = _found(value, rest.removeprefix("."))
            if found:
                return found
    return []
