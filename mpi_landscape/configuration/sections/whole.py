"""The configuration as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TypeVar

from mpi_landscape.configuration.sections.connect import ConnectConfiguration
from mpi_landscape.configuration.sections.fields import STRICT, Text
from mpi_landscape.configuration.sections.hessian import HessianConfiguration
from mpi_landscape.configuration.sections.plane import (
    DifferenceDirection,
    Directions,
    DirectionsConfiguration,
    EigenvectorDirection,
    FileDirection,
    GridConfiguration,
    RandomDirection,
)
from mpi_landscape.configuration.sections.sources import (
    DataConfiguration,
    LossConfiguration,
    ModelConfiguration,
)
from mpi_landscape.configuration.sections.training import TrainingConfiguration
from mpi_landscape.configuration.sections.trajectory import TrajectoryConfiguration
from mpi_landscape.configuration.sections.work import ComputeConfiguration
from mpi_landscape.errors import InvalidSectionError
from mpi_landscape.plan.grid import Axis

_Any = TypeVar("_Any")
# The largest number of 32 bits.
_FLOAT32 = (2 - 2**-23) * 2.0**127


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Everything that one YAML file says.

    One file with a training trains and then computes around what it found: the checkpoint is then that training's
    final one, and the surface lies beside it, unless said otherwise.

    Attributes:
        model: The network; with a training its checkpoint is that training's final.pt unless said otherwise.
        directions: The directions; a line has no beta, whatever they say.
        output: File of the surface, relative to the working folder; with a training surface.h5 in its folder unless
            said otherwise, and without one the program's choice.
        training: How the solution is found; None where the file does not say.
        trajectory: Which checkpoints, and on which axes; for `trajectory` alone.
        connect: Which two solutions to connect, and how; None where the file does not say.
        hessian: Where the Hessian is looked at, and how; None where the file does not say.

    Raises:
        InvalidSectionError: The grid has a beta and the directions have none, or it is beyond the precision.
    """

    __pydantic_config__ = STRICT

    model: ModelConfiguration
    data: DataConfiguration
    loss: LossConfiguration = field(default_factory=lambda: LossConfiguration(name="cross_entropy"))
    directions: Directions = field(default_factory=DirectionsConfiguration)
    grid: GridConfiguration = field(default_factory=GridConfiguration)
    compute: ComputeConfiguration = field(default_factory=ComputeConfiguration)
    output: Text | None = None
    training: TrainingConfiguration | None = None
    trajectory: TrajectoryConfiguration | None = None
    connect: ConnectConfiguration | None = None
    hessian: HessianConfiguration | None = None

    def __post_init__(self) -> None:
        if self.grid.beta is not None and self.directions.beta is None:
            raise InvalidSectionError(
                "directions.beta is null and grid.beta is not; set grid.beta to null for a line, "
                "or give a direction"
            )
        self._check_repeats()
        if self.compute.precision == "kept":
            for name, direction in (("alpha", self.directions.alpha), ("beta", self.directions.beta)):
                unused = name == "beta" and self.grid.beta is None
                if isinstance(direction, FileDirection | EigenvectorDirection) and not unused:
                    raise InvalidSectionError(
                        f"directions.{name} is of kind {direction.kind}, a vector in float32, and compute.precision is kept, "
                        f"which makes directions anew at every point; valid are the kinds random and difference"
                    )
        self._check_batch_norm()
        for name, axis in (("alpha", self.grid.alpha), ("beta", self.grid.beta)):
            far = max(axis.min, axis.max, key=abs) if isinstance(axis, Axis) else 0.0
            if abs(far) > _FLOAT32 and self.compute.precision != "float64":
                raise InvalidSectionError(
                    f"grid.{name} reaches {far:g}, and in {self.compute.precision} a network moves by at most "
                    f"{_FLOAT32:.3g}; valid for it is compute.precision float64"
                )

    def _check_repeats(self) -> None:
        """Several lines are along alpha, have no second axis, and lie in vectors."""
        alpha, beta = self.directions.alpha, self.directions.beta
        if isinstance(beta, RandomDirection) and beta.lines:
            raise InvalidSectionError(
                "directions.beta has repeats or seeds; several lines are those of directions.alpha, without a beta"
            )
        if not (isinstance(alpha, RandomDirection) and alpha.lines):
            return
        if self.grid.beta is not None:
            raise InvalidSectionError(
                "directions.alpha has repeats or seeds, which are of lines, and grid.beta is not null; set grid.beta to null "
                "(--line, beta=None), or leave them out"
            )
        if self.compute.precision == "kept":
            raise InvalidSectionError(
                "directions.alpha has repeats or seeds, which compute.precision kept does not know; valid for it is one seed "
                "in each file"
            )

    def _check_batch_norm(self) -> None:
        said, moves = self.compute.batch_norm, self.directions.normalization_buffers
        if said != "auto" and moves != "auto" and moves != (said == "interpolated"):
            raise InvalidSectionError(
                f"compute.batch_norm is {said}, and directions.normalization_buffers is {str(moves).lower()}, which says "
                f"{'interpolated' if moves else 'stored'}; leave one of the two out"
            )

    @property
    def title(self) -> str:
        """What it is of, in a few words: the network and the data."""
        network, data = (each.name or str(each.target).split(":")[-1] for each in (self.model, self.data))
        if network == "hub":  # one of transformers' types, made anew
            configuration = self.model.arguments.get("config")
            kind = configuration.get("type") if isinstance(configuration, Mapping) else None
            network = str(kind or network)
        return f"{network} on {data}"

    def completed(self) -> "Configuration":
        """The same with what follows from the grid and from the training said, where it was left open."""
        directions, model, output = self.directions, self.model, self.output
        if self.grid.beta is None:
            directions = replace(directions, beta=None)
        directions = replace(
            directions, alpha=self._as_the_model(directions.alpha), beta=self._as_the_model(directions.beta)
        )
        if self.compute.batch_norm != "auto":
            directions = replace(directions, normalization_buffers=self.compute.batch_norm == "interpolated")
        if self.training is not None:
            folder = PurePath(self.training.output)
            model = model if model.checkpoint else replace(model, checkpoint=str(folder / "final.pt"))
            output = output or str(folder / "surface.h5")
        return replace(self, directions=directions, model=model, output=output)

    @property
    def is_own_checkpoint(self) -> bool:
        """Whether the checkpoint is what the training of the same file leaves, in which model.key and part find nothing."""
        own = None if self.training is None else str(PurePath(self.training.output) / "final.pt")
        return own is not None and self.model.checkpoint == own

    def _as_the_model(self, direction: _Any) -> _Any:
        """A direction that ends in a checkpoint, with the key and the part of the model's where it says none."""
        if not isinstance(direction, (DifferenceDirection, FileDirection)):
            return direction
        return replace(direction, key=direction.key or self.model.key, part=direction.part or self.model.part)
