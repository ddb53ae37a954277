"""Which fields of a configuration are swept over: lists where a single value is expected, and a section `sweep`."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mpi_landscape.configuration.bases import BESIDES
from mpi_landscape.configuration.sections.training import TrainingConfiguration
from mpi_landscape.configuration.shape import scalar_fields
from mpi_landscape.configuration.yaml_text import DEEPEST
from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import shown

# Every member has files of its own: these follow from its folder.
_OF_MEMBER = ("training", "training.output", "output", "model.checkpoint")
_IN_TRAINING = frozenset(scalar_fields(TrainingConfiguration, path="training")) - {"training.output"}

# From a dotted path to the file or option that set it.
Where = Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A field, such as "model.name", the values that it takes, and where these stand: "sweep.model.name"."""

    key: str
    values: tuple[Any, ...]
    place: str


def swept_fields(values: Mapping[str, Any], *, where: Where) -> tuple[Sweep, ...]:
    """What is swept over, in the order in which it stands; each takes at least one value, and each once.

    Raises:
        LandscapeError: The section is not a mapping of dotted fields to lists, a list is empty or repeats a value,
            or a field is swept over twice, by itself or as a part of another.
    """
    found = tuple(_found(values, where))
    for sweep in found:
        _check_field(sweep, where)
        _check_values(sweep, where)
    known: dict[str, Sweep] = {}
    # The longer key after the shorter, which may contain it.
    for sweep in sorted(found, key=lambda each: each.key.count(".")):
        steps = sweep.key.split(".")
        prefixes = (".".join(steps[: number + 1]) for number in range(len(steps)))
        other = next((known[prefix] for prefix in prefixes if prefix in known), None)
        if other is not None:
            raise LandscapeError(
                f"{where(sweep.place)}: both {other.place} and {sweep.place} are swept over; "
                "expected each field in one sweep only"
            )
        known[sweep.key] = sweep
    return found


def without_overridden(values: Mapping[str, Any], options: Sequence[str]) -> dict[str, Any]:
    """A copy in which each option, a dotted path, has ended the sweeps over its field and over those inside it."""
    sweep = values.get("sweep")
    if not isinstance(sweep, Mapping):
        return dict(values)
    return {**values, "sweep": {key: each for key, each in sweep.items() if not _is_ended(key, options)}}


def _is_ended(key: Any, options: Sequence[str]) -> bool:
    """Whether the last option that concerns a sweep set the field, and not the sweep."""
    places = (f"{key}.", f"sweep.{key}.")
    concerned = [each for each in options if any(place.startswith(f"{each}.") for place in places)]
    return bool(concerned) and concerned[-1].split(".")[0] != "sweep"


def _found(values: Mapping[str, Any], where: Where) -> Iterator[Sweep]:
    for name, section in values.items():
        if name == "training" and isinstance(section, Mapping):
            yield from _in_training(section, "training")
        elif name == "sweep" and section is not None:
            yield from _in_section(section, where)


def _in_training(section: Mapping[str, Any], path: str) -> Iterator[Sweep]:
    for name, value in section.items():
        key = f"{path}.{name}"
        if isinstance(value, Mapping):
            yield from _in_training(value, key)
        elif isinstance(value, (list, tuple)) and key in _IN_TRAINING:
            yield Sweep(key=key, values=tuple(value), place=key)


def _in_section(section: Any, where: Where) -> Iterator[Sweep]:
    if not isinstance(section, Mapping):
        raise LandscapeError(
            f"{where('sweep')}: sweep is {shown(section)}; expected a mapping of dotted fields to lists of values"
        )
    for key, values in section.items():
        place = f"sweep.{key}"
        if not isinstance(key, str) or not all(key.split(".")):
            raise LandscapeError(
                f"{where('sweep')}: sweep has the key {shown(key)}; expected a dotted field such as model.name"
            )
        if key.count(".") >= DEEPEST:
            raise LandscapeError(
                f"{where('sweep')}: sweep has the key {shown(key)}, which leads more than {DEEPEST} deep"
            )
        # A null takes back the sweep of a base, and here there was none.
        if values is None:
            continue
        if not isinstance(values, (list, tuple)):
            raise LandscapeError(f"{where(place)}: {place} is {shown(values)}; expected a list of values")
        yield Sweep(key=key, values=tuple(values), place=place)


def _check_field(sweep: Sweep, where: Where) -> None:
    if sweep.key in _OF_MEMBER or sweep.key.split(".")[0] in BESIDES:
        raise LandscapeError(
            f"{where(sweep.place)}: {sweep.key} cannot be swept over; expected a field that says what is trained "
            "and how; each member has files of its own"
        )


def _check_values(sweep: Sweep, where: Where) -> None:
    if not sweep.values:
        raise LandscapeError(f"{where(sweep.place)}: {sweep.place} is []; expected at least one value")
    known: set[Hashable] = set()
    for number, value in enumerate(sweep.values):
        if not _is_plain(value):
            raise LandscapeError(
                f"{where(sweep.place)}: {sweep.place}[{number}] is {shown(value)}; "
                "expected text, a number, true, false, null, or a list of these"
            )
        if _identity(value) in known:
            raise LandscapeError(
                f"{where(sweep.place)}: {sweep.place} has {shown(value)} twice; expected each value once"
            )
        known.add(_identity(value))


def _is_plain(value: Any) -> bool:
    values = value if isinstance(value, (list, tuple)) else [value]
    return all(each is None or isinstance(each, (str, int, float)) for each in values)


def _identity(value: Any) -> Hashable:
    if isinstance(value, (list, tuple)):
        return tuple(_identity(each) for each in value)
    # To Python, true is 1; to a configuration it is not.
    return isinstance(value, bool), value
