"""A training that was asked for, and the same with its network and data on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from mpi_landscape.configuration.sections.training import TrainingConfiguration
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.training.feed import Feed
from mpi_landscape.training.loop import Training
from mpi_landscape.training.recipe import Recipe

# Fields that do not decide a solution.
_UNDECIDED = ("model.checkpoint", "data.download", "training.output", "training.checkpoint_every")


@dataclass(frozen=True, kw_only=True)
class Handed:
    """What a script hands over, where a file would name it.

    Attributes:
        model: Trained in place; its parameters are those to begin with.
        loss: Called as `loss(model, batch)`.
        splits: The data by split.
        identity: What decides the solution, by name, as a file's words would.
        title: What is trained, in a few words.
    """

    model: nn.Module
    loss: LossFunction
    splits: Mapping[str, Dataset[Any]]
    identity: Mapping[str, str]
    title: str


@dataclass(frozen=True, kw_only=True)
class Member:
    """One training that was asked for.

    Attributes:
        where: The configuration's file, for messages; targets are also looked for beside it.
        configuration: With a section `training`.
        handed: Network, loss and data, where a script has them; None where the configuration says what they are.
    """

    where: str
    configuration: Configuration
    handed: Handed | None = None

    @property
    def title(self) -> str:
        """What is trained, in a few words."""
        return self.configuration.title if self.handed is None else self.handed.title

    @property
    def settings(self) -> TrainingConfiguration:
        """The section `training`."""
        assert self.configuration.training is not None
        return self.configuration.training

    @property
    def folder(self) -> Path:
        """Where its files go."""
        return Path(self.settings.output)

    @property
    def identity(self) -> dict[str, str]:
        """What decides the solution, by dotted name: a training goes on only where all of it is the same."""
        parts = {name: getattr(self.configuration, name) for name in ("model", "data", "loss", "training")}
        leaves = _flat({name: asdict(part) for name, part in parts.items()})
        said = {name: str(value) for name, value in leaves if value is not None and name not in _UNDECIDED}
        return said if self.handed is None else {**said, **self.handed.identity}


@dataclass(frozen=True, kw_only=True)
class PreparedTraining:
    """Network and data on the device, ready to be trained.

    Attributes:
        member: What was asked for.
        model: With its initial parameters.
        loss: Called as `loss(model, batch)`.
        feeds: The data by split.
        recipe: How to train.
        device: Where to train.
        channels_last: How images lie in memory.
        facts: Further attributes of the history.
    """

    member: Member
    model: nn.Module
    loss: LossFunction
    feeds: Mapping[str, Feed]
    recipe: Recipe
    device: torch.device
    channels_last: bool
    facts: Mapping[str, Any]

    def training(self) -> Training:
        """The training from its beginning."""
        return Training(
            self.model,
            self.loss,
            self.feeds,
            self.recipe,
            device=self.device,
            channels_last=self.channels_last,
        )


def _flat(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """The leaves of nested mappings and sequences with their dotted names."""
    if isinstance(value, Mapping):
        return [
            leaf for key, inner in value.items() for leaf in _flat(inner, f"{path}.{key}" if path else key)
        ]
    if isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
        return [leaf for index, inner in enumerate(value) for leaf in _flat(inner, f"{path}[{index}]")]
    return [(path, value)]
