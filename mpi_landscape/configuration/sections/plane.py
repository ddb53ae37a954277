"""Where it is evaluated: directions and grid."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

from mpi_landscape.configuration.sections.fields import (
    STRICT,
    Count,
    Flag,
    InvalidSectionError,
    Kind,
    Names,
    Normalize,
    Number,
    Seed,
    Text,
)


@dataclass(frozen=True, kw_only=True)
class DirectionConfiguration:
    """One direction from the center: δ or η of Li et al. (2018), arXiv:1712.09913, section 4.

    Attributes:
        kind: "random" (Gaussian), "difference" (the checkpoint `to` minus the center) or "file".
        seed: Of a random direction; None takes 1 for alpha and 2 for beta.
        normalize: What gets the norm of its counterpart in the center; None takes "filter" for random
            directions and "none" for others.
        ignore: What stays at the center: "bias", "norm" (running statistics too), "buffer" (these only), or glob
            patterns of tensor names; None takes ("bias", "norm") for random directions and () for others.
        to: Checkpoint at the far end of a difference.
        path: File of kind "file".

    Raises:
        InvalidSectionError: If a field does not belong to the kind, or one that it needs is missing.
    """

    __pydantic_config__ = STRICT

    kind: Kind = "random"
    seed: Seed | None = None
    normalize: Normalize | None = None
    ignore: Names | None = None
    to: Text | None = None
    path: Text | None = None

    def __post_init__(self) -> None:
        own = {"random": "seed", "difference": "to", "file": "path"}
        given = [name for name in own.values() if getattr(self, name) is not None]
        foreign = [name for name in given if name != own[self.kind]]
        if foreign:
            raise InvalidSectionError(
                f"{foreign[0]} does not belong to kind {self.kind}; "
                f"valid fields are kind, normalize, ignore, {own[self.kind]}"
            )
        if self.kind != "random" and not given:
            raise InvalidSectionError(f"kind {self.kind} needs the field {own[self.kind]}: a file")
        if self.normalize is None:
            object.__setattr__(self, "normalize", "filter" if self.kind == "random" else "none")
        if self.ignore is None:
            object.__setattr__(self, "ignore", ("bias", "norm") if self.kind == "random" else ())


@dataclass(frozen=True, kw_only=True)
class DirectionsConfiguration:
    """The directions that span the surface.

    Attributes:
        alpha: First direction, δ.
        beta: Second direction, η; None for a line.
        orthogonalize: Whether beta is made orthogonal to alpha.
        normalization_buffers: Whether running statistics of normalisation layers move along too.
    """

    __pydantic_config__ = STRICT

    alpha: DirectionConfiguration = field(default_factory=DirectionConfiguration)
    beta: DirectionConfiguration | None = field(default_factory=DirectionConfiguration)
    orthogonalize: Flag = False
    normalization_buffers: Flag = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", _seeded(self.alpha, 1))
        if self.beta is not None:
            object.__setattr__(self, "beta", _seeded(self.beta, 2))


@dataclass(frozen=True, kw_only=True)
class AxisConfiguration:
    """Equally spaced steps along one direction.

    Attributes:
        min: First step, in lengths of the direction.
        max: Last step, likewise.
        num: Number of steps, both ends included.

    Raises:
        InvalidSectionError: If min is above max, or equal to it with more than one step.
    """

    SHORTHAND: ClassVar[str] = "[min, max, num]"
    __pydantic_config__ = STRICT

    min: Number = -1.0
    max: Number = 1.0
    num: Count = 51

    def __post_init__(self) -> None:
        if self.min > self.max:
            raise InvalidSectionError(f"min {self.min} is above max {self.max}; expected min below max")
        if self.min == self.max and self.num > 1:
            raise InvalidSectionError(f"min and max are both {self.min}; expected min below max, or num 1")


@dataclass(frozen=True, kw_only=True)
class GridConfiguration:
    """The points of the surface.

    Attributes:
        alpha: Steps along the first direction.
        beta: Steps along the second; None for a line.
    """

    __pydantic_config__ = STRICT

    alpha: AxisConfiguration = field(default_factory=AxisConfiguration)
    beta: AxisConfiguration | None = field(default_factory=AxisConfiguration)


def _seeded(direction: DirectionConfiguration, seed: int) -> DirectionConfiguration:
    if direction.kind != "random" or direction.seed is not None:
        return direction
    return replace(direction, seed=seed)
