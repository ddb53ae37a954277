"""How a path of low loss between two solutions is found."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import Field

from mpi_landscape.configuration.sections import fields
from mpi_landscape.configuration.sections.training import Augmentation
from mpi_landscape.configuration.validation import expecting
from mpi_landscape.errors import InvalidSectionError
from mpi_landscape.wording import either, listed, shown

Method = Literal["line", "bezier", "polygon", "string", "autoneb"]
METHODS: tuple[Method, ...] = ("line", "bezier", "polygon", "string", "autoneb")
# What is multiplied by a network's size, or by a pass over the data.
_MOST_PIVOTS = 1000
_MOST_POINTS = 100_000

_Pivots = Annotated[
    int,
    Field(strict=True, ge=1, le=_MOST_PIVOTS),
    expecting(f"a whole number from 1 to {_MOST_PIVOTS}"),
]
_Insertions = Annotated[
    int,
    Field(strict=True, ge=0, le=_MOST_PIVOTS),
    expecting(f"a whole number from 0 to {_MOST_PIVOTS}"),
]
_Points = Annotated[
    int,
    Field(strict=True, ge=2, le=_MOST_POINTS),
    expecting(f"a whole number from 2 to {_MOST_POINTS}"),
]

_Method = Annotated[Method, expecting(either(METHODS))]
_Align = Annotated[Literal["none", "permutation"], expecting("none or permutation")]


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """Some steps of an elastic band at one learning rate.

    Attributes:
        steps: How many.
        learning_rate: Of each.
        insert: The most pivots that are inserted before them.
    """

    __pydantic_config__ = fields.STRICT

    steps: fields.Count
    learning_rate: fields.Positive
    insert: _Insertions = 2


# Draxler et al. 2018, and the configurations of their program: four cycles of 1000 steps at 0.1, two of 2000, and then four of
# 1000 at a tenth and at a hundredth of that.
CYCLES = (
    *[Cycle(steps=1000, learning_rate=0.1)] * 4,
    *[Cycle(steps=2000, learning_rate=0.1)] * 2,
    *[Cycle(steps=1000, learning_rate=0.01)] * 4,
    *[Cycle(steps=1000, learning_rate=0.001)] * 4,
)
_COMMON: Mapping[str, Any] = MappingProxyType(
    {"batch_size": 128, "piece_size": "auto", "seed": 0, "augmentation": Augmentation()}
)
# What each method has, with its value where nothing is said. Curves: Garipov et al. 2018, arXiv:1802.10026, section 5 and
# their scripts for residual networks. Strings: E, Ren and Vanden-Eijnden 2007, whose gradients are exact and who have no
# momentum. Elastic bands: Draxler et al. 2018, arXiv:1803.00885.
DEFAULTS: Mapping[Method, Mapping[str, Any]] = MappingProxyType(
    {
        "line": {},
        "bezier": {
            **_COMMON,
            "epochs": 200,
            "learning_rate": 0.03,
            "momentum": 0.9,
            "weight_decay": 5e-4,
        },
        "polygon": {
            **_COMMON,
            "epochs": 200,
            "learning_rate": 0.03,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "bends": 1,
        },
        "string": {
            **_COMMON,
            "batch_size": "all",
            "steps": 1000,
            "learning_rate": 0.1,
            "momentum": 0.0,
            "weight_decay": 0.0,
            "pivots": 15,
        },
        "autoneb": {
            **_COMMON,
            "cycles": CYCLES,
            "momentum": 0.9,
            "weight_decay": 1e-4,
            "pivots": 3,
            "most_pivots": 50,
            "threshold": 0.1,
            "between": 9,
            "spring_constant": None,
        },
    }
)


@dataclass(frozen=True, kw_only=True)
class ConnectConfiguration:
    """A path from one solution to another. Fields that say None take what the method's paper has.

    Attributes:
        start: Checkpoint at t = 0, relative to the working folder.
        end: Checkpoint at t = 1, of the same network.
        key: Where in them the state dictionary is, as `model.key`; None takes that of the model.
        part: As `model.part`.
        method: "line": straight. "bezier": a quadratic Bézier curve, "polygon": a chain of `bends` bends, both trained by SGD
            at random points of the curve. "string": pivots that follow their gradients and are put at equal distances.
            "autoneb": an elastic band, with pivots inserted where the loss between them is higher than it should be.
        align: "permutation" brings the end next to the start by a permutation of its units, which changes no output.
        num_points: Points of [0, 1] at which the losses along the path are kept, besides those of bends and pivots.
        epochs: Passes over the training data, of bezier and polygon.
        steps: Of string.
        cycles: Of autoneb.
        batch_size: Examples of a step, for every pivot; "all" is the exact gradient.
        piece_size: Examples that go through the network at once; the pieces of a step are shared out over the ranks.
        learning_rate: Of bezier, polygon and string; autoneb has one in each cycle. That of curves stays for half of the epochs
            and falls to a hundredth then.
        momentum: Of the gradient.
        weight_decay: Factor of the parameters on the path that is added to their gradient.
        augmentation: Random changes of the images, as in a training.
        bends: Of polygon.
        pivots: Between the ends: of string, and of autoneb at its beginning.
        most_pivots: Of autoneb; no more are inserted.
        threshold: A pivot is inserted where the loss lies above the straight line between its neighbours' by more than
            this share of the range of losses along the path.
        between: Points between two pivots at which that is looked for.
        spring_constant: Of the springs between pivots; None puts them back where they were along the path after every step.
        seed: Of the points on the curve, the order of the examples and all else that is random.

    Raises:
        InvalidSectionError: Something is said that the method does not have.
    """

    __pydantic_config__ = fields.STRICT

    start: fields.Text = field(metadata={"description": "a checkpoint"})
    end: fields.Text = field(metadata={"description": "a checkpoint"})
    key: fields.Text | None = None
    part: fields.Text | None = None
    method: _Method = "bezier"
    align: _Align = "none"
    num_points: _Points = 61
    epochs: fields.Epochs | None = None
    steps: fields.Count | None = None
    cycles: tuple[Cycle, ...] | None = None
    batch_size: fields.CountOrAll | None = None
    piece_size: fields.CountOrAuto | None = None
    learning_rate: fields.Positive | None = None
    momentum: fields.Fraction | None = None
    weight_decay: fields.NotNegative | None = None
    augmentation: Augmentation | None = None
    bends: _Pivots | None = None
    pivots: _Pivots | None = None
    most_pivots: _Pivots | None = None
    threshold: fields.Positive | None = None
    between: _Pivots | None = None
    spring_constant: fields.Positive | None = None
    seed: fields.Seed | None = None

    def __post_init__(self) -> None:
        has = DEFAULTS[self.method]
        foreign = [name for name in _OPTIONS if name not in has and getattr(self, name) is not None]
        if foreign:
            valid = listed(has) if has else "none"
            raise InvalidSectionError(
                f"{foreign[0]} does not belong to method {self.method}; what this method has: {valid}",
                foreign[0],
            )
        if self.cycles is not None and not self.cycles:
            raise InvalidSectionError("cycles is []; expected at least one, or none of the field", "cycles")
        if self.method == "autoneb" and self.said("most_pivots") < self.said("pivots"):
            raise InvalidSectionError(
                f"most_pivots is {shown(self.said('most_pivots'))}, fewer than the {self.said('pivots')} at the beginning",
                "most_pivots",
            )

    def said(self, name: str) -> Any:
        """What a field says, or what its method has where it says nothing."""
        value = getattr(self, name)
        return DEFAULTS[self.method][name] if value is None else value

    @property
    def resolved(self) -> "ConnectConfiguration":
        """The same with everything said that the method has."""
        return dataclasses.replace(self, **{name: self.said(name) for name in DEFAULTS[self.method]})


_OPTIONS = tuple(dict.fromkeys(name for has in DEFAULTS.values() for name in has))
