"""A split that is held, in another order of its examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpi_landscape.evaluation import batches as nests
from mpi_landscape.evaluation.resident import Batch, Resident


def reordered(resident: Resident, order: NDArray[np.int64]) -> Resident:
    """The same examples in batches of another order; the digest stays that of the data set.

    Args:
        resident: In the order of the data set.
        order: (num_examples,) int64, a permutation: which example comes first, second, ...
    """
    whole = _joined([nests.rows(batch.data, 0, batch.valid) for batch in resident.batches])
    size, kept = resident.batch_size, []
    for start in range(0, resident.num_examples, size):
        chosen = order[start : start + size]
        # The last batch repeats its last item, as when it is read.
        padded = np.concatenate([chosen, np.repeat(chosen[-1:], size - chosen.size)])
        kept.append(Batch(data=_taken(whole, padded), valid=chosen.size))
    return replace(resident, batches=tuple(kept))


def _joined(parts: Sequence[Any]) -> Any:
    """One nest of all examples from those of several batches."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if nests.is_strings(first):
        return [each for part in parts for each in part]
    if isinstance(first, Mapping):
        return {key: _joined([part[key] for part in parts]) for key in first}
    if isinstance(first, list | tuple):
        inner = [_joined([part[place] for part in parts]) for place in range(len(first))]
        return type(first)(*inner) if hasattr(first, "_fields") else type(first)(inner)
    return first


def _taken(whole: Any, chosen: NDArray[np.int64]) -> Any:
    """The chosen examples of a nest."""
    if isinstance(whole, Tensor):
        return whole[torch.from_numpy(chosen).to(whole.device)]
    if nests.is_strings(whole):
        return [whole[index] for index in chosen]
    if isinstance(whole, Mapping):
        return {key: _taken(value, chosen) for key, value in whole.items()}
    if isinstance(whole, list | tuple):
        inner = [_taken(value, chosen) for value in whole]
        return type(whole)(*inner) if hasattr(whole, "_fields") else type(whole)(inner)
    return whole
