"""The configuration as a whole."""

from dataclasses import dataclass, field, replace
from pathlib import PurePath

from mpi_landscape.configuration.sections.fields import STRICT, InvalidSectionError, Text
from mpi_landscape.configuration.sections.plane import DirectionsConfiguration, GridConfiguration
from mpi_landscape.configuration.sections.sources import (
    DataConfiguration,
    LossConfiguration,
    ModelConfiguration,
)
from mpi_landscape.configuration.sections.training import TrainingConfiguration
from mpi_landscape.configuration.sections.work import ComputeConfiguration


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Everything that one YAML file says.

    One file with a training trains and then computes around what it found: the checkpoint is then that training's
    final one, and the surface lies beside it, unless said otherwise.

    Attributes:
        model: The network; its checkpoint None with a training becomes the training's final.pt.
        data: The data.
        loss: The loss; cross-entropy unless said otherwise.
        directions: The directions; beta is None whenever the grid is a line.
        grid: The points.
        compute: How it is computed.
        output: File of the surface, relative to the working folder; None with a training becomes surface.h5 in the
            training's folder, and without one lets the program choose.
        training: How the solution is found; None if the file does not say.

    Raises:
        InvalidSectionError: If the grid has a beta and the directions have none.
    """

    __pydantic_config__ = STRICT

    model: ModelConfiguration
    data: DataConfiguration
    loss: LossConfiguration = field(default_factory=lambda: LossConfiguration(name="cross_entropy"))
    directions: DirectionsConfiguration = field(default_factory=DirectionsConfiguration)
    grid: GridConfiguration = field(default_factory=GridConfiguration)
    compute: ComputeConfiguration = field(default_factory=ComputeConfiguration)
    output: Text | None = None
    training: TrainingConfiguration | None = None

    def __post_init__(self) -> None:
        if self.grid.beta is None:
            object.__setattr__(self, "directions", replace(self.directions, beta=None))
        elif self.directions.beta is None:
            raise InvalidSectionError(
                "directions.beta is null and grid.beta is not; set grid.beta to null for a line, "
                "or give a direction"
            )
        if self.training is not None:
            self._follow(PurePath(self.training.output))

    def _follow(self, folder: PurePath) -> None:
        if self.model.checkpoint is None:
            object.__setattr__(self, "model", replace(self.model, checkpoint=str(folder / "final.pt")))
        if self.output is None:
            object.__setattr__(self, "output", str(folder / "surface.h5"))
