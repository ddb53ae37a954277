"""The problem that a configuration describes: a network, a loss and data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.utils.data import Dataset

from mpi_landscape.configuration.sections.sources import LossConfiguration
from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.loading.collated import Collated
from mpi_landscape.loading.results import LossFunction, users_own
from mpi_landscape.problem.datasets.table import build_data
from mpi_landscape.problem.fitting import check_tokens
from mpi_landscape.problem.loss_text import loss_text
from mpi_landscape.problem.losses import LOSSES, OF_NETWORKS, build_loss
from mpi_landscape.problem.networks.table import build_network


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is evaluated.

    Attributes:
        model: The network, on the CPU.
        loss: Called `loss(model, batch)`; one value per example.
        splits: Data sets by name, such as "train" and "test".
        where: What describes it, for messages.
        loss_name: The name of a loss of this program; None for a user's own.
        loss_text: What identifies the loss.
        batch_size: The number of examples in which the data came, as a loader has it; None where they came without.
        notes: What was made of what was given, in lines for people.
        ends: Tensors by name that a direction leads to, by axis, where a script hands them over; those of rank 0 count.
    """

    model: nn.Module
    loss: LossFunction
    splits: Mapping[str, Dataset[Any]]
    where: str = "problem"
    loss_name: str | None = None
    loss_text: str = ""
    batch_size: int | None = None
    notes: tuple[str, ...] = ()
    ends: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


def build(configuration: Configuration, *, where: str, folders: Sequence[Path]) -> Problem:
    """Build what a configuration describes, but for the checkpoint, which one rank reads for all.

    Messages call it by its file, `where`; modules of targets are looked for in `folders` besides the working
    folder and installed packages.

    Raises:
        LandscapeError: The network, the loss or the data cannot be built.
    """
    # The cheap ones first: a misspelt loss should not have to wait for the data.
    build_loss(configuration.loss, where=where, folders=folders)
    model = build_network(configuration.model, where=where, folders=folders)
    data = build_data(configuration.data, where=where, folders=folders)
    check_tokens(model, data.splits, where=where)
    loss = build_loss(
        configuration.loss, where=where, folders=folders, model=model, ragged=is_ragged(data.splits)
    )
    return Problem(
        model=model.cpu(),
        loss=loss,
        splits=data.splits,
        batch_size=data.batch_size,
        notes=tuple(data.notes),
        where=where,
        loss_name=configuration.loss.name if configuration.loss.name in LOSSES else None,
        loss_text=text_of(configuration.loss, loss),
    )


def is_ragged(splits: Mapping[str, Dataset[Any]]) -> bool:
    """Whether items may have several sizes: those of a data set that makes its own batches."""
    return any(isinstance(each, Collated) for each in splits.values())


def text_of(configuration: LossConfiguration, loss: LossFunction) -> str:
    """What identifies a loss that a configuration names."""
    arguments = (f"{key}={value!r}" for key, value in sorted(configuration.arguments.items()))
    text = f"{configuration.name or configuration.target}({', '.join(arguments)})"
    own = configuration.target is not None or configuration.name in OF_NETWORKS
    return loss_text(users_own(loss), text) if own else text


def units_of_loss(loss: LossFunction, name: str | None) -> str:
    """The units of a loss that was tried, and of its name where it has one: a user's own is taken for nats per example."""
    if name in ("mse", "hinge"):
        return "per example"
    return getattr(loss, "units", None) or "nats per example"
