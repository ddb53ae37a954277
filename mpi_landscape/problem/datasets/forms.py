"""The usual forms of data, each as map-style data sets by split: tensors, arrays, loaders, modules of Lightning, iterables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import (
    DataLoader,
    IterableDataset,
)

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.collated import Collated
from mpi_landscape.problem.datasets.given import (
    EXPECTED,
    Given,
    Split,
    is_hugging_face,
    materialized,
    of_hugging_face,
    rows_of,
    tensor_of,
)
from mpi_landscape.problem.datasets.loaders import of_loader
from mpi_landscape.wording import listed, one_line

# A dict of tensors under these names is several splits; under others it is one split, whose items are dicts.
_SPLITS = ("train", "test", "val", "valid", "validation", "dev", "eval")


def splits_of(data: Any, *, where: str, collate_fn: Callable[[list[Any]], Any] | None = None) -> Given:
    """Data in any usual form, as map-style data sets by split; `train` where there is one.

    Args:
        data: A map-style data set (also of Hugging Face), a DataLoader, a tuple of tensors or arrays `(x, y)`, a dict of
            tensors, a finite iterable, a LightningDataModule, or a mapping of such by the names of the splits; one under the
            single key `splits` is never taken for a dict of tensors.
        where: Who was given it, for messages.
        collate_fn: Makes batches of items of several sizes, for all splits that do not bring one.

    Raises:
        LandscapeError: It has another form, weights or repeats its examples, does not fit into memory, or is empty.
    """
    if is_data_module(data):
        offered: Mapping[str, Any] = _loaders_of(data, where)
    elif isinstance(data, Mapping):
        offered = _by_name(data, where)
    else:
        offered = {"train": data}
    found = {
        name: _split_of(each, where, name, collated=collate_fn is not None) for name, each in offered.items()
    }
    splits = {
        name: each.dataset
        if collate_fn is None or isinstance(each.dataset, Collated)
        else Collated(each.dataset, collate_fn)
        for name, each in found.items()
    }
    return Given(
        splits=splits,
        batch_size=next((each.batch_size for each in found.values()), None),
        notes=[note for each in found.values() for note in each.notes],
    )


def is_data_module(data: Any) -> bool:
    """Whether data are a LightningDataModule, of either of its packages."""
    return all(callable(getattr(data, name, None)) for name in ("setup", "train_dataloader", "prepare_data"))


def _by_name(data: Mapping[Any, Any], where: str) -> Mapping[str, Any]:
    if not data:
        raise LandscapeError(f"{where}: is an empty mapping; {EXPECTED}")
    if list(data) == ["splits"] and isinstance(data["splits"], Mapping):
        return data["splits"]
    if all(isinstance(value, Tensor | np.ndarray) for value in data.values()) and not set(data) <= set(
        _SPLITS
    ):
        return {"train": data}
    return data


def _loaders_of(module: Any, where: str) -> dict[str, Any]:
    """The loaders of a LightningDataModule by split: train, val, test, as far as it has them."""
    loaders: dict[str, Any] = {}
    try:
        module.prepare_data()
        module.setup("fit")
        loaders |= _numbered("train", module.train_dataloader())
        for name, stage in (("val", "validate"), ("test", "test")):
            # The base class has these methods too, and they raise, or give nothing.
            if _is_own(module, f"{name}_dataloader"):
                module.setup(stage)
                loaders |= _numbered(name, getattr(module, f"{name}_dataloader")())
    except LandscapeError:
        raise
    except Exception as error:
        raise LandscapeError(
            f"{where}: {type(module).__name__} raised {type(error).__name__}: {one_line(error)}"
        ) from error
    return loaders


def _is_own(module: Any, name: str) -> bool:
    method = getattr(type(module), name, None)
    return method is not None and not method.__module__.startswith(("lightning.", "pytorch_lightning."))


def _numbered(name: str, loaders: Any) -> dict[str, Any]:
    if loaders is None:
        return {}
    if isinstance(loaders, list | tuple) and not _are_tensors(loaders):
        return (
            {name: loaders[0]}
            if len(loaders) == 1
            else {f"{name}_{number}": each for number, each in enumerate(loaders)}
        )
    return {name: loaders}


def _are_tensors(values: Iterable[Any]) -> bool:
    return all(isinstance(value, Tensor | np.ndarray) for value in values)


def _split_of(data: Any, where: str, name: str, *, collated: bool) -> Split:
    """One split in any of its forms."""
    subject = f"{where}: split {name}"
    if isinstance(data, DataLoader):
        return of_loader(data, where, name)
    if isinstance(data, type):
        raise LandscapeError(f"{subject} is the class {data.__name__}; {EXPECTED}")
    if isinstance(data, Mapping):
        if not data or not _are_tensors(data.values()):
            kinds = sorted({type(value).__name__ for value in data.values()})
            raise LandscapeError(
                f"{subject} is a dict of {listed(kinds) if kinds else 'nothing'}; valid is a dict of tensors or arrays, one "
                f"row per example"
            )
        return Split(
            dataset=rows_of({key: tensor_of(value, subject) for key, value in data.items()}, subject)
        )
    if isinstance(data, tuple) and not hasattr(data, "_fields"):
        if not data or not _are_tensors(data):
            kinds = [type(value).__name__ for value in data]
            raise LandscapeError(
                f"{subject} is a tuple of {', '.join(kinds) or 'nothing'}; valid is one of tensors or arrays, one row per "
                f'example, and several splits are a dict: {{"train": ..., "test": ...}}'
            )
        return Split(dataset=rows_of(tuple(tensor_of(value, subject) for value in data), subject))
    if isinstance(data, np.ndarray):
        return Split(dataset=rows_of(tensor_of(data, subject), subject))
    if is_hugging_face(data):
        return of_hugging_face(data, name, collated=collated)
    if isinstance(data, IterableDataset) or not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
        return materialized(data, subject, name)
    return Split(dataset=data)
