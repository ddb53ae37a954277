"""The configuration as a whole."""

from dataclasses import dataclass, field, replace

from mpi_landscape.problem.sections.fields import (
    STRICT,
    InvalidSectionError,
    Text,
)
from mpi_landscape.problem.sections.plane import DirectionsConfiguration, GridConfiguration
from mpi_landscape.problem.sections.sources import DataConfiguration, LossConfiguration, ModelConfiguration
from mpi_landscape.problem.sections.work import ComputeConfiguration, TrainingConfiguration


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Everything that one YAML file says.

    Attributes:
        model: The network.
        data: The data.
        loss: The loss; cross-entropy unless said otherwise.
        directions: The directions; beta is None whenever the grid is a line.
        grid: The points.
        compute: How it is computed.
        output: File of the surface, relative to the working folder; None lets the program choose.
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
