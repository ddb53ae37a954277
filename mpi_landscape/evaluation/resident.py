"""A split of the data, read and collated once, and kept in the device's memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation import batches as nests


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Examples that go through the network together.

    Attributes:
        data: The default collation of `batch_size` items, on the device.
        valid: How many of them count; the rest of the last batch repeats its last item, because another batch size
            can give other bits (pytorch/pytorch#58128).
    """

    data: Any
    valid: int


@dataclass(frozen=True, kw_only=True)
class Resident:
    """One split on the device.

    Attributes:
        split: Its name.
        num_examples: How many examples it has.
        batch_size: Examples per batch; the split's size where that is smaller.
        batches: All of it, in the order of the data set.
        digest: SHA-256 of the examples as collated, independent of batch size and device.
    """

    split: str
    num_examples: int
    batch_size: int
    batches: tuple[Batch, ...]
    digest: str


def make_resident(
    split: str, dataset: Dataset[Any], *, batch_size: int, device: torch.device, dtype: torch.dtype
) -> Resident:
    """Read a data set once, item by item, in its own order.

    Args:
        split: Name, for messages.
        dataset: Map-style; items as `torch.utils.data.default_collate` takes them.
        batch_size: Examples per batch, made smaller where the split is smaller.
        device: Where the batches shall lie.
        dtype: What floating-point tensors become.

    Raises:
        LandscapeError: The split is empty, an item cannot be read, or items cannot be collated.
    """
    num_examples = len(dataset)  # type: ignore[arg-type]
    if num_examples == 0:
        raise LandscapeError(f"data: split {split!r} is empty; a loss needs at least one example")
    batch_size = min(batch_size, num_examples)
    digest = _Digest()
    kept = []
    for start in range(0, num_examples, batch_size):
        stop = min(start + batch_size, num_examples)
        items = read_items(split, dataset, range(start, stop))
        data = collate(split, items + items[-1:] * (batch_size - len(items)), dtype=dtype)
        digest.update(nests.rows(data, 0, stop - start))
        kept.append(Batch(data=nests.map_tensors(lambda t: t.to(device), data), valid=stop - start))
    return Resident(
        split=split,
        num_examples=num_examples,
        batch_size=batch_size,
        batches=tuple(kept),
        digest=digest.text(),
    )


def example_size(split: str, dataset: Dataset[Any]) -> int:
    """Numbers in the largest tensor of the first example.

    Raises:
        LandscapeError: It cannot be read or collated.
    """
    example = collate(split, read_items(split, dataset, [0]), dtype=torch.float32)
    return max((tensor.numel() for _, tensor in nests.tensors(example)), default=1)


def read_items(split: str, dataset: Dataset[Any], indices: Sequence[int]) -> list[Any]:
    """The items of a data set, with its exceptions put in words.

    Raises:
        LandscapeError: The data set raised.
    """
    items = []
    for index in indices:
        try:
            items.append(dataset[index])
        except Exception as error:
            raise LandscapeError(
                f"data: item {index} of split {split!r} could not be read: "
                f"{type(error).__name__}: {one_line(error)}"
            ) from error
    return items


def collate(split: str, items: list[Any], *, dtype: torch.dtype) -> Any:
    """The default collation of items, floating-point tensors in the precision of the computation.

    Raises:
        LandscapeError: Items of different shapes, or that the default collation cannot take.
    """
    try:
        batch = default_collate(items)
    except Exception as error:  # of several kinds: ValueError for an array of negative strides, KeyError, ...
        raise LandscapeError(
            f"data: items of split {split!r} do not collate into a batch: {one_line(error)}; "
            f"items must be (input, target) or mappings of tensors, arrays or numbers, all of one shape"
        ) from error
    return nests.map_tensors(lambda t: t.to(dtype) if t.is_floating_point() else t, batch)


class _Digest:
    """One running hash per place in the nest, so that batch boundaries leave no trace."""

    def __init__(self) -> None:
        self._places: dict[str, hashlib._Hash] = {}

    def update(self, batch: Any) -> None:
        for place, leaf in nests.leaves(batch):
            if place not in self._places:
                kind = f"{leaf.dtype} {tuple(leaf.shape[1:])}" if isinstance(leaf, Tensor) else "strings"
                self._places[place] = hashlib.sha256(kind.encode())
            if isinstance(leaf, Tensor):
                self._places[place].update(tensor_bytes(leaf))
            else:
                self._places[place].update("".join(f"{each!r} " for each in leaf).encode())

    def text(self) -> str:
        whole = hashlib.sha256()
        for place, partial in sorted(self._places.items()):
            whole.update(f"{place} {partial.hexdigest()} ".encode())
        return whole.hexdigest()


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The values of a tensor as bytes, in C order."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data


def one_line(error: BaseException) -> str:
    """What an exception says, as one line of bounded length."""
    return " ".join(str(error).split())[:300]
