"""How a solution is trained: phases of gradient descent, one after another."""

import dataclasses
from dataclasses import dataclass

from mpi_landscape.configuration.sections import fields
from mpi_landscape.errors import InvalidSectionError
from mpi_landscape.wording import listed, shortened, shown

# Learning rate, momentum and weight decay where nothing is said: for SGD those with which Li et al. (2018),
# arXiv:1712.09913, trained; for Adam those of Kingma & Ba (2015), arXiv:1412.6980.
_DEFAULTS = {"sgd": (0.1, 0.9, 5e-4), "adam": (1e-3, 0.0, 0.0)}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Steps of the learning rate: a factor after each milestone, which is an epoch of a phase.

    Raises:
        InvalidSectionError: The milestones do not increase.
    """

    __pydantic_config__ = fields.STRICT

    milestones: fields.Milestones
    factor: fields.Positive = 0.1

    def __post_init__(self) -> None:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise InvalidSectionError(
                f"milestones are {shortened(listed(self.milestones))}; expected increasing epochs"
            )


CONSTANT_RATE = Schedule(milestones=())


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of the training images, drawn anew for every epoch.

    Attributes:
        shift: Largest shift along either axis, in pixels; what moves in is black.
        flip: Whether half of the images are mirrored left to right.
    """

    __pydantic_config__ = fields.STRICT

    shift: fields.Shift = 0
    flip: fields.Flag = False


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Epochs with one optimizer: what a file says, with nothing left open, and what is trained.

    Attributes:
        epochs: Passes over the training data; 0 leaves the phase out.
        batch_size: Examples in a step, of which the last of an epoch may have fewer; "all" is plain gradient descent, one
            step an epoch.
        learning_rate: At the start of the phase.
        momentum: Of the gradient; 0 with Adam.
        nesterov: Whether Nesterov's momentum is used.
        weight_decay: Factor of the parameters (all of them) that is added to the gradient.

    Raises:
        InvalidSectionError: Nesterov's momentum is asked for without momentum, or a milestone is not before the
            phase's end.
    """

    epochs: fields.Epochs
    optimizer: fields.Optimizer
    batch_size: fields.CountOrAll
    learning_rate: fields.Positive
    momentum: fields.Fraction = 0.0
    nesterov: fields.Flag = False
    weight_decay: fields.NotNegative = 0.0
    schedule: Schedule = CONSTANT_RATE
    augmentation: Augmentation = Augmentation()

    def __post_init__(self) -> None:
        if self.nesterov and self.momentum == 0:
            raise InvalidSectionError("nesterov is true with momentum 0.0; expected a momentum above 0")
        beyond = [milestone for milestone in self.schedule.milestones if milestone >= self.epochs]
        if beyond:
            valid = f"milestones from 1 to {self.epochs - 1}" if self.epochs > 1 else "none"
            raise InvalidSectionError(
                f"milestones {shown(beyond)} lie beyond {self.epochs} epochs; expected {valid}"
            )


@dataclass(frozen=True, kw_only=True)
class PhaseChanges:
    """What a file says of one phase: fields of `Phase`, each None where it is what the training says for all phases.

    A schedule without milestones keeps the learning rate constant, and an empty augmentation makes no changes, even where
    the training says otherwise.
    """

    __pydantic_config__ = fields.STRICT

    epochs: fields.Epochs | None = None
    optimizer: fields.Optimizer | None = None
    batch_size: fields.CountOrAll | None = None
    learning_rate: fields.Positive | None = None
    momentum: fields.Fraction | None = None
    nesterov: fields.Flag | None = None
    weight_decay: fields.NotNegative | None = None
    schedule: Schedule | None = None
    augmentation: Augmentation | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingConfiguration:
    """How a solution is found. What a `Phase` can say is, said here, the default of all phases.

    Attributes:
        output: Folder for the checkpoints and the history, relative to the working folder.
        start: Checkpoint of the parameters to begin from; None begins from the initial ones.
        seed: Of the initial parameters, the order of the examples and all else that is random.
        piece_size: Examples that go through the network at once; a step adds up the gradients of its pieces.
        data: Where the training data are held: "resident" on the device, "streamed" to it, or "auto".
        checkpoint_every: Epochs from one checkpoint to the next.
        epochs: Needed here or in every phase.
        learning_rate: None takes 0.1 for SGD and 0.001 for Adam.
        momentum: Of SGD only, as is nesterov; None takes 0.9.
        weight_decay: None takes 0.0005 for SGD and 0 for Adam.
        phases: The phases one after another; None is a single one.

    Raises:
        InvalidSectionError: There is no phase, or one that cannot be; see `plan`.
    """

    __pydantic_config__ = fields.STRICT

    output: fields.Text
    start: fields.Text | None = None
    seed: fields.Seed = 0
    piece_size: fields.CountOrAuto = "auto"
    data: fields.Placement = "auto"
    checkpoint_every: fields.Count = 1
    epochs: fields.Epochs | None = None
    optimizer: fields.Optimizer = "sgd"
    batch_size: fields.CountOrAll = 128
    learning_rate: fields.Positive | None = None
    momentum: fields.Fraction | None = None
    nesterov: fields.Flag = False
    weight_decay: fields.NotNegative | None = None
    schedule: Schedule | None = None
    augmentation: Augmentation | None = None
    phases: tuple[PhaseChanges, ...] | None = None

    def __post_init__(self) -> None:
        if self.phases is not None and not self.phases:
            raise InvalidSectionError("phases is []; expected at least one, or none of the field")
        total = sum(phase.epochs for phase in self.plan)
        if total > fields.MOST_EPOCHS:
            raise InvalidSectionError(
                f"all phases have {total} epochs; expected at most {fields.MOST_EPOCHS}"
            )

    @property
    def plan(self) -> tuple[Phase, ...]:
        """The phases in order, with nothing left open; at least one.

        Raises:
            InvalidSectionError: The epochs of a phase are not given, or its fields do not fit together.
        """
        if self.phases is None:
            return (_resolved(self, PhaseChanges()),)
        return tuple(_numbered(self, number, phase) for number, phase in enumerate(self.phases))


def _numbered(training: TrainingConfiguration, number: int, phase: PhaseChanges) -> Phase:
    try:
        return _resolved(training, phase)
    except InvalidSectionError as error:
        raise InvalidSectionError(f"phases[{number}]: {error}") from error


def _resolved(training: TrainingConfiguration, phase: PhaseChanges) -> Phase:
    given = {
        each.name: own if (own := getattr(phase, each.name)) is not None else getattr(training, each.name)
        for each in dataclasses.fields(PhaseChanges)
    }
    if given["epochs"] is None:
        raise InvalidSectionError("epochs is not given; expected it in training, or in every phase")
    if given["optimizer"] == "adam":
        _refuse_momentum(given["momentum"], given["nesterov"])
    rate, momentum, weight_decay = _DEFAULTS[given["optimizer"]]
    # Of the fields that were said nowhere; a schedule and an augmentation have defaults of their own.
    defaults = {"learning_rate": rate, "momentum": momentum, "weight_decay": weight_decay}
    return Phase(**defaults | {name: value for name, value in given.items() if value is not None})


def _refuse_momentum(momentum: float | None, nesterov: bool) -> None:
    """Adam has no momentum of the gradient: what is said of it would have no effect."""
    said = f"momentum {momentum}" if momentum is not None else "nesterov true" if nesterov else None
    if said is not None:
        raise InvalidSectionError(f"{said} does not belong to optimizer adam; expected it with sgd only")
