"""Where it is evaluated: directions and grid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WrapValidator

from mpi_landscape.configuration.sections.fields import (
    LARGEST_SEED,
    STRICT,
    Axes,
    Buffers,
    Count,
    Flag,
    Index,
    Names,
    Normalize,
    Only,
    Repeats,
    Seed,
    Seeds,
    TensorKind,
    Text,
)
from mpi_landscape.configuration.shape import field_names
from mpi_landscape.errors import InvalidSectionError
from mpi_landscape.plan.grid import MAX_AXIS_POINTS, Axis
from mpi_landscape.wording import shown


@dataclass(frozen=True, kw_only=True)
class RandomDirection:
    """A Gaussian direction, the one of Li et al. (2018), arXiv:1712.09913, section 4.

    Attributes:
        seed: Another one is another direction; a file that says none means 1 for alpha and 2 for beta.
        normalize: What gets the norm of its counterpart in the center.
        ignore: What stays at the center: "bias", "norm" (running statistics and single numbers too), "scalar" (single
            numbers, such as a temperature), "buffer" (running statistics), or glob patterns of tensor names.
        only: "trainable" leaves tensors that no training moves (requires_grad is false) at the center, "all" does not.
            A network of which nothing is trainable moves as a whole.
        repeats: Of alpha, on a line: so many lines, along the directions of `seed`, `seed` + 1, and so on; None for one line.
        seeds: The same with any seeds, each once.

    Raises:
        InvalidSectionError: Both are given, or the last seed is none.
    """

    __pydantic_config__ = STRICT

    kind: Literal["random"] = "random"
    seed: Seed
    normalize: Normalize = "filter"
    ignore: Names = ("bias", "norm")
    only: Only = "trainable"
    repeats: Repeats | None = None
    seeds: Seeds | None = None

    def __post_init__(self) -> None:
        if self.repeats is not None and self.seeds is not None:
            raise InvalidSectionError(
                "repeats and seeds are given; the seeds say how many lines there are, give one of the two"
            )
        if self.seed + (self.repeats or 1) - 1 > LARGEST_SEED:
            raise InvalidSectionError(
                f"seed is {self.seed}, and {self.repeats} repeats have seeds beyond {LARGEST_SEED}",
                field="seed",
            )

    @property
    def lines(self) -> tuple[int, ...]:
        """The seeds of several lines; empty where there is one."""
        if self.seeds is not None:
            return self.seeds
        return tuple(range(self.seed, self.seed + self.repeats)) if self.repeats else ()

    def of(self, seed: int) -> "RandomDirection":
        """The direction of one of the lines."""
        return replace(self, seed=seed, repeats=None, seeds=None)


@dataclass(frozen=True, kw_only=True)
class DifferenceDirection:
    """The direction from the center to another checkpoint, `to`; normalized and ignoring as a random one.

    It moves `all` unless said otherwise: its end is the other checkpoint, of which `key` and `part` are those of the model's
    unless said here; "." is none.
    """

    __pydantic_config__ = STRICT

    kind: Literal["difference"] = "difference"
    normalize: Normalize = "none"
    ignore: Names = ()
    only: Only = "all"
    to: Text = field(metadata={"description": "a file"})
    key: Text | None = None
    part: Text | None = None


@dataclass(frozen=True, kw_only=True)
class FileDirection:
    """A direction that was made before, at `path`: a surface file, an .npy array, or a state dictionary.

    It is found in a checkpoint of any kind as that of a `DifferenceDirection` is.
    """

    __pydantic_config__ = STRICT

    kind: Literal["file"] = "file"
    normalize: Normalize = "none"
    ignore: Names = ()
    only: Only = "all"
    path: Text = field(metadata={"description": "a file"})
    key: Text | None = None
    part: Text | None = None


@dataclass(frozen=True, kw_only=True)
class EigenvectorDirection:
    """An eigenvector of a Hessian, from a file of `mpi_landscape.hessian` at `path`; of length 1 unless it is normalized.

    Its `index` is 0 for the largest eigenvalue, 1 for the next one, and so on; -1 for the least, the most negative.
    """

    __pydantic_config__ = STRICT

    kind: Literal["eigenvector"] = "eigenvector"
    normalize: Normalize = "none"
    ignore: Names = ()
    only: Only = "all"
    path: Text = field(metadata={"description": "a file of mpi_landscape.hessian"})
    index: Index = 0


# `placement.plane` has a function for each kind, which makes the vector.
_Kinds = RandomDirection | DifferenceDirection | FileDirection | EigenvectorDirection
Direction = Annotated[_Kinds, Field(discriminator="kind")]


def _seeded(seed: int) -> BeforeValidator:
    """What a file leaves open: a direction is random, and of this seed. A null says no more than nothing."""
    nullable = set(field_names(_Kinds)) - {"kind"}

    def complete(said: Any) -> Any:
        if not isinstance(said, Mapping):
            return said
        kept = {key: value for key, value in said.items() if value is not None or key not in nullable}
        kind = kept.setdefault("kind", "random")
        return {"seed": seed, **kept} if kind == "random" else kept

    return BeforeValidator(complete)


@dataclass(frozen=True, kw_only=True)
class TensorRule:
    """What some tensors are, and what their filters are.

    Attributes:
        tensors: Glob pattern of their names, such as "*.c_attn.weight"; it must match something.
        kind: What `ignore` calls them; None for what is found.
        axis: The axis, or the list of axes, that enumerates the outputs: 1 for a weight of shape (in, out). -1 is the last.
        groups: Into how many groups of neighbors the axis falls, each of them one filter: the heads of an attention.
        whole: Whether each of them is one filter.

    Raises:
        InvalidSectionError: It says nothing, or both axis and whole, or groups of no axis or of several.
    """

    __pydantic_config__ = STRICT

    tensors: Text = field(metadata={"description": "a pattern of names"})
    kind: TensorKind | None = None
    axis: Axes | None = None
    groups: Count | None = None
    whole: Flag = False

    def __post_init__(self) -> None:
        if self.axis is not None and self.whole:
            raise InvalidSectionError(
                f"axis is {self.axis} and whole is true; a tensor of one filter has no axis of filters, give one of the two"
            )
        if self.groups is not None and not isinstance(self.axis, int):
            raise InvalidSectionError(
                f"groups is {self.groups} and axis is {self.axis}; groups are of one axis, give its number"
            )
        if self.kind is None and self.axis is None and not self.whole:
            raise InvalidSectionError(
                "kind, axis and whole are not given; the rule says nothing, give one of them"
            )


@dataclass(frozen=True, kw_only=True)
class DirectionsConfiguration:
    """The directions that span the surface.

    Attributes:
        alpha: First direction, δ of Li et al. (2018), arXiv:1712.09913, section 4.
        beta: Second direction, η; None for a line. What it does not say of `normalize`, `ignore` and `only`, a file says at
            alpha, where both are of one kind.
        orthogonalize: Whether beta is made orthogonal to alpha.
        normalization_buffers: Whether running statistics of normalization layers move along: true or false, or "auto" for
            where a difference leads to a checkpoint that has others. Random directions never move them.
        rules: What tensors are, where neither the layer nor its use tells; of several for a tensor the last counts. For
            both directions.
    """

    __pydantic_config__ = STRICT

    alpha: Annotated[Direction, _seeded(1)] = RandomDirection(seed=1)
    beta: Annotated[Direction, _seeded(2)] | None = RandomDirection(seed=2)
    orthogonalize: Flag = False
    normalization_buffers: Buffers = "auto"
    rules: tuple[TensorRule, ...] = ()


# Which tensors move, and how: one set for both directions unless beta says otherwise.
_SHARED = ("normalize", "ignore", "only")


def _beta_as_alpha(said: Any, validate: Callable[[Any], DirectionsConfiguration]) -> DirectionsConfiguration:
    """What a file says of beta, and of what it leaves open there what it says of an alpha of the same kind."""
    checked = validate(said)
    if not isinstance(said, Mapping) or checked.beta is None or checked.alpha.kind != checked.beta.kind:
        return checked
    shared = {
        key: getattr(checked.alpha, key)
        for key in _SHARED
        if _says(said.get("alpha"), key) and not _says(said.get("beta"), key)
    }
    return replace(checked, beta=replace(checked.beta, **shared))


def _says(direction: Any, key: str) -> bool:
    return direction.get(key) is not None if isinstance(direction, Mapping) else direction is not None


Directions = Annotated[DirectionsConfiguration, WrapValidator(_beta_as_alpha)]


@dataclass(frozen=True, kw_only=True)
class AutoAxis:
    """An axis whose range is found, in place of one of three numbers: `auto`, or `{auto: true, num: 31}`.

    Attributes:
        num: Number of points; the center is one of them.

    Raises:
        InvalidSectionError: There are fewer than three, or too many.
    """

    num: int = 51
    auto: bool = True

    def __post_init__(self) -> None:
        if self.auto is not True:
            raise InvalidSectionError(
                f"auto is {shown(self.auto)}; expected true, or min, max and num", field="auto"
            )
        if type(self.num) is not int or not 3 <= self.num <= MAX_AXIS_POINTS:
            raise InvalidSectionError(
                f"num is {shown(self.num)}; expected a whole number from 3 to {MAX_AXIS_POINTS}, where the range is found",
                field="num",
            )


def _checked_axis(said: Any, validate: Callable[[Any], Axis]) -> "Axis | AutoAxis":
    """An axis checks its own numbers; what does not have the form of one is left to be refused."""
    if said == "auto":
        return AutoAxis()
    if isinstance(said, AutoAxis):
        return said
    if isinstance(said, Mapping) and "auto" in said:
        for each in said:
            if each not in field_names(AutoAxis):
                raise InvalidSectionError(
                    f"{shown(each)} does not belong to an axis whose range is found; valid are auto and num, or min, max and num"
                )
        return AutoAxis(**said)
    return validate(
        Axis(**said) if isinstance(said, Mapping) and set(said) <= set(field_names(Axis)) else said
    )


if TYPE_CHECKING:
    _Axis = Axis | AutoAxis
else:
    # What is refused is refused as an axis, of which messages name the fields.
    _Axis = Annotated[Axis, WrapValidator(_checked_axis)]


@dataclass(frozen=True, kw_only=True)
class GridConfiguration:
    """The points of the surface: steps along the first direction and the second, None for a line; see also `AutoAxis`."""

    __pydantic_config__ = STRICT

    alpha: _Axis = field(default_factory=Axis)
    beta: _Axis | None = field(default_factory=Axis)
