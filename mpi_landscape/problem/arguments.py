"""What a script hands over in place of a configuration: a network, a loss and data, in the forms in which people have them."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from mpi_landscape.configuration.sections.sources import LossConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.problem.build import text_of
from mpi_landscape.problem.datasets.forms import splits_of
from mpi_landscape.problem.datasets.given import Given
from mpi_landscape.problem.datasets.table import check_names, check_split
from mpi_landscape.problem.loss_text import loss_text
from mpi_landscape.problem.losses import LOSSES, OF_NETWORKS, adapted, build_loss
from mpi_landscape.problem.targets import check_arguments
from mpi_landscape.problem.weights.names import without_prefixes
from mpi_landscape.wording import listed, shown


def check_network(model: Any, *, where: str) -> None:
    """Refuse what is no network, or one without values.

    Args:
        model: What was given.
        where: Who was given it, for messages.

    Raises:
        LandscapeError: It is a class, a function, a state dictionary, something else, on the meta device, on several devices, or
            not initialized.
    """
    if isinstance(model, nn.Module):
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        absent = next((name for name, tensor in tensors.items() if tensor.is_meta), None)
        if absent is not None:
            raise LandscapeError(
                f"{where}: model: {absent} is on the meta device and has no values; load them first (to_empty, load_state_dict)"
            )
        places: dict[torch.device, str] = {}
        for name, tensor in model.named_parameters():
            places.setdefault(tensor.device, name)
        if len(places) > 1:
            found = listed([f"{name} on {device}" for device, name in places.items()])
            raise LandscapeError(
                f"{where}: model: has parameters on several devices ({found}); valid is a network on one, which a rank can hold "
                f"whole: model.cpu(), from where it is moved to what computes"
            )
        lazy = next((name for name, tensor in tensors.items() if is_lazy(tensor)), None)
        if lazy is not None:
            raise LandscapeError(
                f"{where}: model: {lazy} is not initialized yet; pass one batch through the lazy layers first"
            )
        return
    if isinstance(model, type):
        found, advice = f"the class {model.__name__}", f"; make one of it: {model.__name__}(...)"
    elif isinstance(model, Mapping) and any(isinstance(value, Tensor) for value in model.values()):
        found, advice = "a state dictionary", "; load it into the network: network.load_state_dict(...)"
    elif callable(model):
        found, advice = f"the function {getattr(model, '__qualname__', type(model).__name__)}", ""
    else:
        found, advice = f"a {type(model).__name__}", ""
    raise LandscapeError(
        f"{where}: model is {found}; expected a network, an instance of torch.nn.Module{advice}"
    )


def given_loss(
    loss: Any,
    model: nn.Module,
    configuration: LossConfiguration | None,
    *,
    ragged: bool,
    where: str,
) -> tuple[LossFunction, str | None, str]:
    """A loss in any of its forms, as a function of a network and a batch.

    Args:
        loss: A criterion `(outputs, targets)`, or a function `(model, batch)`.
        configuration: What names it instead; None where nothing does.
        model: The network, which may bring it along.
        ragged: Whether examples have several sizes.
        where: Who was given it, for messages.

    Returns:
        The function; its name where it is one of this program's; and what identifies it.

    Raises:
        LandscapeError: It is none of these.
    """
    if configuration is not None:
        function = build_loss(configuration, where=where, folders=[], model=model, ragged=ragged)
        name = configuration.name if configuration.name in LOSSES else None
        return function, name, text_of(configuration, function)
    check_loss(loss, where=where)
    return adapted(loss, ragged=ragged), None, loss_text(loss)


def lent_ends(directions: Any, *, where: str) -> tuple[Any, dict[str, dict[str, Tensor]]]:
    """Take what a script gives for the ends of differences out of its directions.

    Args:
        directions: As a configuration has them; `to` of a difference may be a path, a network or a state dictionary.
        where: Who was given them, for messages.

    Returns:
        The directions with texts alone, and tensors by axis and name.

    Raises:
        LandscapeError: An end is none of these.

    Example:
        >>> lent_ends({"alpha": {"kind": "difference", "to": {"w": Tensor([1.0])}}}, where="landscape()")
        ({'alpha': {'kind': 'difference', 'to': 'python:to'}}, {'alpha': {'w': tensor([1.])}})
    """
    if not isinstance(directions, Mapping):
        return directions, {}
    named, lent = dict(directions), {}
    for axis in ("alpha", "beta"):
        said = directions.get(axis)
        if not isinstance(said, Mapping):
            continue
        named[axis] = {
            key: os.fspath(value) if isinstance(value, os.PathLike) else value for key, value in said.items()
        }
        end = named[axis].get("to")
        if isinstance(end, nn.Module | Mapping):
            lent[axis] = tensors_given(end, f"{where}: directions.{axis}.to")
            named[axis]["to"] = "python:to"
        elif end is not None and not isinstance(end, str):
            raise LandscapeError(
                f"{where}: directions.{axis}.to is a {type(end).__name__}; expected a path, a network (torch.nn.Module) or a "
                f"state dictionary"
            )
    return named, lent


def tensors_given(end: nn.Module | Mapping[Any, Any], where: str) -> dict[str, Tensor]:
    """The tensors of a network or a state dictionary that a script hands over, on the CPU; their memory may be its own.

    Raises:
        LandscapeError: It has none, or something else; messages begin with `where`.
    """
    state = end.state_dict() if isinstance(end, nn.Module) else end
    state = {name: value for name, value in state.items() if not str(name).endswith("_extra_state")}
    wrong = next((name for name, value in state.items() if not isinstance(value, Tensor)), None)
    if not state or wrong is not None or not all(isinstance(name, str) for name in state):
        found = (
            f"has {shown(wrong)}, a {type(state[wrong]).__name__}"
            if wrong is not None
            else "has no tensors by name"
        )
        raise LandscapeError(f"{where} {found}; expected a state dictionary: tensors by name")
    absent = next((name for name, value in state.items() if value.is_meta or is_lazy(value)), None)
    if absent is not None:
        raise LandscapeError(f"{where}: {shown(absent)} has no values; load them first")
    return without_prefixes({name: value.detach().cpu() for name, value in state.items()})


def check_loss(loss: Any, *, where: str) -> None:
    """Refuse a loss that is neither a name, nor a criterion, nor a function of a network and a batch.

    Args:
        loss: What was given.
        where: Who was given it, for messages.

    Raises:
        LandscapeError: It is none of these.
    """
    expected = (
        f"expected {listed([*LOSSES, *OF_NETWORKS])}, a criterion (outputs, targets) such as "
        f"torch.nn.CrossEntropyLoss(), or a function (model, batch)"
    )
    if isinstance(loss, str | Mapping):
        return
    if isinstance(loss, type):
        raise LandscapeError(f"{where}: loss is the class {loss.__name__}; {expected}")
    if not callable(loss):
        raise LandscapeError(f"{where}: loss is {shown(loss)}; {expected}")
    called = str(getattr(loss, "__qualname__", type(loss).__name__))
    check_arguments(loss, {}, where=f"{where}: loss", called=called, given=("model", "batch"))


def check_data(data: Any, *, where: str, collate_fn: Callable[[list[Any]], Any] | None = None) -> Given:
    """The data by split, `train` where one data set is given; see `splits_of`.

    Args:
        data: What was given.
        where: Who was given it, for messages.
        collate_fn: Makes batches of items of several sizes.

    Raises:
        LandscapeError: There is none, a split has no form that is known or is empty, or its name cannot be one of a file's.
    """
    where = f"{where}: data"
    if collate_fn is not None and not callable(collate_fn):
        raise LandscapeError(
            f"{where}: collate_fn is {shown(collate_fn)}; expected a function that makes a batch of a list of items"
        )
    given = splits_of(data, where=where, collate_fn=collate_fn)
    check_names(given.splits, where)
    return replace(
        given, splits={name: check_split(split, name, where) for name, split in given.splits.items()}
    )
