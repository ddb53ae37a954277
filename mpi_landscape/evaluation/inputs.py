"""In which type the network and the loss get the numbers of a data set: as they are given, wherever that can be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.premises import try_two_examples
from mpi_landscape.loading import nests
from mpi_landscape.loading.reading import collate, read_items
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.wording import one_line


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """The floating-point numbers of a split.

    Attributes:
        dtype: What they become; None leaves them as they are given.
        given: Their types as given, where these are others than the precision's.
        refusal: Why these do not stay as they are; empty where they do.
    """

    dtype: torch.dtype | None
    given: tuple[str, ...] = ()
    refusal: str = ""

    def words(self) -> str:
        """What is done to them, for people; empty where that is nothing to speak of."""
        if not self.given:
            return ""
        given = " and ".join(self.given)
        if self.dtype is None:
            return f"as given: {given}"
        return f"{given} becomes {_name(self.dtype)}, since as given {one_line(self.refusal, 160)}"


def find_inputs(
    loss: LossFunction,
    model: nn.Module,
    split: str,
    dataset: Dataset[Any],
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Inputs:
    """Try two examples as the data set gives them: times in float64 are rounded to minutes by float32.

    Where network and loss take them, they stay so; where they raise, as a layer of float32 does for inputs of float64, the
    numbers become those of the computation. In float64 all are: nothing is rounded then.

    Args:
        loss: Called as `loss(model, batch)`.
        model: In evaluation mode, on the device and of the type.
        split: Name of the data, for messages.
        dataset: Map-style, not empty.
        device: Where to try.
        dtype: The type of the computation, float32 or float64.

    Raises:
        LandscapeError: Items cannot be read or collated.
    """
    items = read_items(split, dataset, range(min(2, len(dataset))))  # type: ignore[arg-type]
    kinds = {
        leaf.dtype
        for _, leaf in nests.tensors(collate(split, items, dtype=None, dataset=dataset))
        if leaf.is_floating_point()
    }
    given = tuple(sorted(_name(kind) for kind in kinds - {dtype}))
    if dtype == torch.float64:
        return Inputs(dtype=dtype)
    if not given:
        return Inputs(dtype=None)
    try:
        try_two_examples(loss, model, split, dataset, device=device, dtype=None)
    except LandscapeError as error:
        return Inputs(dtype=dtype, given=given, refusal=str(error))
    return Inputs(dtype=None, given=given)


def _name(kind: torch.dtype) -> str:
    return str(kind).removeprefix("torch.")
