"""How it is computed, and how a solution is trained."""

from dataclasses import dataclass

from mpi_landscape.problem.messages import listed
from mpi_landscape.problem.sections.fields import (
    STRICT,
    Count,
    CountOrAuto,
    CountOrZero,
    Device,
    Flag,
    Fraction,
    InvalidSectionError,
    Milestones,
    NotNegative,
    Positive,
    Precision,
    Seed,
    Text,
)


@dataclass(frozen=True, kw_only=True)
class ComputeConfiguration:
    """How it is computed; "auto" is decided once by the problem, never by the number of ranks.

    Attributes:
        precision: Floating-point format of the evaluation.
        device: "auto", "cpu", "cuda" or "cuda:N".
        batch_size: Examples in a batch.
        data_shards: Pieces into which a split is cut.
        points_per_tile: Grid points in a tile.
        threads: Threads of a rank on the CPU.
    """

    __pydantic_config__ = STRICT

    precision: Precision = "float32"
    device: Device = "auto"
    batch_size: CountOrAuto = "auto"
    data_shards: CountOrAuto = "auto"
    points_per_tile: CountOrAuto = "auto"
    threads: CountOrAuto = "auto"


@dataclass(frozen=True, kw_only=True)
class ScheduleConfiguration:
    """Steps of the learning rate.

    Attributes:
        milestones: Epochs after which the learning rate is multiplied, increasing.
        factor: What it is multiplied by.

    Raises:
        InvalidSectionError: If the milestones do not increase.
    """

    __pydantic_config__ = STRICT

    milestones: Milestones
    factor: Positive = 0.1

    def __post_init__(self) -> None:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise InvalidSectionError(f"milestones are {listed(self.milestones)}; expected increasing epochs")


@dataclass(frozen=True, kw_only=True)
class TrainingConfiguration:
    """How a solution is found: stochastic gradient descent.

    Attributes:
        epochs: Passes over the training data.
        batch_size: Examples in a step.
        learning_rate: At the start.
        momentum: Of the gradient.
        nesterov: Whether Nesterov's momentum is used.
        weight_decay: Factor of the parameters that is added to the gradient.
        schedule: Steps of the learning rate; None keeps it constant.
        seed: Of the initial parameters and of the order of the examples.
        output: Folder for the checkpoints and the history, relative to the working folder.

    Raises:
        InvalidSectionError: If Nesterov's momentum is asked for without momentum.
    """

    __pydantic_config__ = STRICT

    epochs: CountOrZero
    output: Text
    batch_size: Count = 128
    learning_rate: Positive = 0.1
    momentum: Fraction = 0.9
    nesterov: Flag = False
    weight_decay: NotNegative = 5e-4
    schedule: ScheduleConfiguration | None = None
    seed: Seed = 0

    def __post_init__(self) -> None:
        if self.nesterov and self.momentum == 0:
            raise InvalidSectionError("nesterov is true with momentum 0.0; expected a momentum above 0")
