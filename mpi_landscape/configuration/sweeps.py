"""Many configurations in one file: every combination of what it sweeps over, each with a folder of its own."""

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from mpi_landscape.configuration.layers import expanded, merged
from mpi_landscape.configuration.swept_fields import Sweep, Where, swept_fields
from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import listed, shown

_MOST_MEMBERS = 10_000
# File systems end at 255 bytes for a name.
_LONGEST_NAME = 200


@dataclass(frozen=True, kw_only=True)
class Member:
    """One of the configurations, and where the values of its own stand, by field, such as "sweep.model.name".

    The name is such as "batch_size=128,weight_decay=0.0005", and empty without a sweep.
    """

    name: str
    values: Mapping[str, Any]
    places: Mapping[str, str] = field(default_factory=dict)


def members(values: Mapping[str, Any], *, where: Where) -> tuple[Member, ...]:
    """A configuration for every combination of what is swept over; without a sweep a single one.

    Returns:
        The product in the order in which the sweeps stand, the last varying fastest; a member's training.output is a
        folder of its own in that of the file.

    Raises:
        LandscapeError: A sweep is not one (see `swept_fields`), there are more than 10,000 members, two would have
            the same folder, or a file is named that they would share.
    """
    found = swept_fields(values, where=where)
    rest = {key: value for key, value in values.items() if key != "sweep"}
    if not found:
        return (Member(name="", values=rest),)
    _check(rest, found, where)
    made: dict[str, Member] = {}
    for combination in itertools.product(*(sweep.values for sweep in found)):
        member = _member(rest, found, combination)
        if len(member.name.encode()) > _LONGEST_NAME:
            raise LandscapeError(
                f"{where('')}: the folder of the member {shown(member.name)} has a name of more than "
                f"{_LONGEST_NAME} bytes; sweep over fewer fields or shorter values"
            )
        if member.name in made:
            raise LandscapeError(
                f"{where('')}: two members have the folder {shown(member.name)}; "
                "expected values that differ in letters, digits or the signs . + -"
            )
        made[member.name] = member
    return tuple(made.values())


def refuse(values: Mapping[str, Any], *, where: Where) -> None:
    """Refuse a sweep where a single configuration is expected."""
    found = swept_fields(values, where=where)
    if found:
        origins = {where(sweep.place) for sweep in found}
        raise LandscapeError(
            f"{origins.pop() if len(origins) == 1 else where('')}: has a sweep over {_keys(found)}; "
            "only train takes one; use the configuration.yaml in each member's folder"
        )


def _check(values: Mapping[str, Any], found: Sequence[Sweep], where: Where) -> None:
    number = math.prod(len(sweep.values) for sweep in found)
    if number > _MOST_MEMBERS:
        raise LandscapeError(
            f"{where('')}: the sweep over {_keys(found)} has {number} members; expected at most {_MOST_MEMBERS}"
        )
    if values.get("training") is None:
        raise LandscapeError(
            f"{where('')}: has a sweep over {_keys(found)} and no section training; "
            "its output is the folder of the members"
        )
    model = values.get("model")
    shared = {
        "output": values.get("output"),
        "model.checkpoint": model.get("checkpoint") if isinstance(model, Mapping) else None,
    }
    for path, value in shared.items():
        if value is not None:
            raise LandscapeError(
                f"{where(path)}: {path} is {shown(value)}, one file for all members of the sweep over "
                f"{_keys(found)}; leave it out, and each member has its own"
            )


def _member(values: Mapping[str, Any], found: Sequence[Sweep], combination: Sequence[Any]) -> Member:
    result, parts = values, []
    for sweep, value in zip(found, combination, strict=True):
        result = merged(result, expanded(_nested(sweep.key, value)))
        parts.append(f"{_short(sweep.key.split('.')[-1])}={_short(value)}")
    name = ",".join(parts)
    training = result["training"]
    # What is not right is left to the validation, which says so.
    if isinstance(training, Mapping) and isinstance(training.get("output"), str):
        result = {**result, "training": {**training, "output": str(PurePath(training["output"], name))}}
    return Member(name=name, values=result, places={sweep.key: sweep.place for sweep in found})


def _nested(key: str, value: Any) -> dict[str, Any]:
    step, _, rest = key.partition(".")
    return {step: _nested(rest, value) if rest else value}


def _short(value: Any) -> str:
    """A value as a part of a folder's name: no separators, spaces, commas or equals signs."""
    if isinstance(value, (list, tuple)):
        return "_".join(_short(each) for each in value)
    text = shown(value) if value is None or isinstance(value, bool) else str(value)
    return re.sub(r"[^\w.+-]", "_", text)


def _keys(found: Sequence[Sweep]) -> str:
    return listed(sweep.key for sweep in found)
