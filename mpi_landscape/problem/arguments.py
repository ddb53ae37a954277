"""What a script hands over in place of a configuration: a network, a loss and data, refused in one line where they are none."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.datasets.table import check_names, check_split
from mpi_landscape.problem.losses import LOSSES
from mpi_landscape.problem.targets import check_arguments
from mpi_landscape.wording import listed, shown


def check_network(model: Any, *, where: str) -> None:
    """Refuse what is no network, or one without values.

    Args:
        model: What was given.
        where: Who was given it, for messages.

    Raises:
        LandscapeError: It is a class, a function, a state dictionary, something else, on the meta device, or not initialized.
    """
    if isinstance(model, nn.Module):
        tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        absent = next((name for name, tensor in tensors.items() if tensor.is_meta), None)
        if absent is not None:
            raise LandscapeError(
                f"{where}: model: {absent} is on the meta device and has no values; load them first (to_empty, load_state_dict)"
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


def check_loss(loss: Any, *, where: str) -> None:
    """Refuse a loss that is neither a name nor a function of a network and a batch.

    Args:
        loss: What was given.
        where: Who was given it, for messages.

    Raises:
        LandscapeError: It is neither.
    """
    expected = f"expected {listed(LOSSES)}, or a function (model, batch) that returns one value per example"
    if isinstance(loss, str):
        return
    if isinstance(loss, type):
        raise LandscapeError(f"{where}: loss is the class {loss.__name__}; {expected}")
    if not callable(loss):
        raise LandscapeError(f"{where}: loss is {shown(loss)}; {expected}")
    if isinstance(loss, nn.modules.loss._Loss):
        name = type(loss).__name__
        raise LandscapeError(
            f"{where}: loss is a {name}, which takes outputs and targets; {expected}, such as "
            f"lambda model, batch: {name}(reduction='none')(model(batch[0]), batch[1])"
        )
    called = str(getattr(loss, "__qualname__", type(loss).__name__))
    check_arguments(loss, {}, where=f"{where}: loss", called=called, given=("model", "batch"))


def check_data(data: Any, *, where: str) -> dict[str, Dataset[Any]]:
    """The data by split, `train` where one data set is given.

    Args:
        data: What was given.
        where: Who was given it, for messages.

    Raises:
        LandscapeError: There is none, a split is no map-style data set or is empty, or its name cannot be one of a file's.
    """
    where = f"{where}: data"
    if isinstance(data, Mapping):
        if not data:
            raise LandscapeError(f"{where}: is an empty mapping; expected a data set, or several by name")
        check_names(data, where)
    splits = data if isinstance(data, Mapping) else {"train": data}
    for name, split in splits.items():
        if isinstance(split, DataLoader):
            raise LandscapeError(
                f"{where}: split {name} is a DataLoader; expected a data set with __len__ and __getitem__, such as loader.dataset"
            )
    return {name: check_split(split, name, where) for name, split in splits.items()}
