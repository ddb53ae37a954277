"""What is evaluated: network, data and loss, each by name or by target."""

from dataclasses import dataclass, field
from typing import ClassVar

from mpi_landscape.configuration.sections.fields import STRICT, Arguments, Flag, Names, Text
from mpi_landscape.errors import InvalidSectionError
from mpi_landscape.wording import shown


@dataclass(frozen=True, kw_only=True)
class ModelConfiguration:
    """The network: one of the named ones, or what a target `package.module:callable` returns.

    Attributes:
        name: Name of a network of this package, such as "resnet56"; None with a target.
        target: "package.module:callable" that returns the network; None with a name.
        arguments: Keyword arguments of either.
        checkpoint: File or folder of trained parameters, relative to the working folder; None leaves the initial ones.
        key: Where in it the state dictionary is, as a dotted path such as "ema.module"; None finds it.
        part: What names in the state dictionary begin with that belong to this network, such as "student".

    Raises:
        InvalidSectionError: Not exactly one of name and target is given.
    """

    SHORTHAND: ClassVar[str] = "a name"
    __pydantic_config__ = STRICT

    name: Text | None = None
    target: Text | None = None
    arguments: Arguments = field(default_factory=dict)
    checkpoint: Text | None = None
    key: Text | None = None
    part: Text | None = None

    def __post_init__(self) -> None:
        _refuse_unless_one_of(self.name, self.target)


@dataclass(frozen=True, kw_only=True)
class DataConfiguration:
    """The data: one of the named data sets, or what a target returns, which is data sets by split name.

    Attributes:
        root: Folder of the data on disk, relative to the working folder; of named data sets only.
        download: Whether a named data set that is not there may be fetched.
        splits: Names of the splits to evaluate, in this order; None takes all that there are.

    Raises:
        InvalidSectionError: Not exactly one of name and target is given, a target is given a root or
            a download, or the splits are none or repeated.
    """

    SHORTHAND: ClassVar[str] = "a name"
    __pydantic_config__ = STRICT

    name: Text | None = None
    target: Text | None = None
    root: Text | None = None
    download: Flag = False
    arguments: Arguments = field(default_factory=dict)
    splits: Names | None = None

    def __post_init__(self) -> None:
        _refuse_unless_one_of(self.name, self.target)
        if self.target is not None and (self.root is not None or self.download):
            raise InvalidSectionError(
                "root and download belong to named data sets; give a target its arguments"
            )
        if self.splits is not None and (not self.splits or len(set(self.splits)) < len(self.splits)):
            raise InvalidSectionError(
                f"splits is {shown(list(self.splits))}; expected at least one, each once"
            )


@dataclass(frozen=True, kw_only=True)
class LossConfiguration:
    """The loss: one of the named ones, or a target `loss(model, batch)` with one value per example.

    Name, target and arguments are those of `ModelConfiguration`.
    """

    SHORTHAND: ClassVar[str] = "a name"
    __pydantic_config__ = STRICT

    name: Text | None = None
    target: Text | None = None
    arguments: Arguments = field(default_factory=dict)

    def __post_init__(self) -> None:
        _refuse_unless_one_of(self.name, self.target)


def _refuse_unless_one_of(name: str | None, target: str | None) -> None:
    if name is None and target is None:
        raise InvalidSectionError("neither name nor target is given; expected one of them")
    if name is not None and target is not None:
        raise InvalidSectionError(
            f"both name {shown(name)} and target {shown(target)} are given; expected one"
        )
