"""Premises of every evaluation, looked at on real batches before any work."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

import torch

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation import premises
from mpi_landscape.evaluation.replica import own_copy
from mpi_landscape.loading.batches import Examples
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.labels import check_labels
from mpi_landscape.plan.quantities import Quantities
from mpi_landscape.problem.build import Problem


def check_premises(
    problem: Problem,
    ranks: Ranks,
    splits: Mapping[str, Examples],
    device: torch.device,
    dtype: torch.dtype,
) -> Quantities:
    """Every rank tries one batch; rank 0 alone looks at the data again. Returns what is known at a point.

    Raises:
        LandscapeError: A premise does not hold.
    """
    network = own_copy(problem.model).to(device, dtype).eval()
    returned = {}
    for split, examples in splits.items():
        with closing(examples.pieces(0, 1)) as pieces:
            batch = next(pieces)[0]
        if ranks.is_root:
            check_labels(problem, network, examples)
        result = premises.call_loss(problem.loss, network, batch)
        returned[split] = premises.check_loss(result, examples.batch_size)
        premises.check_repeatable(problem.loss, network, batch)
        if ranks.is_root:
            premises.check_rereading(examples, problem.splits[split], device, dtype)
    return _quantities(returned)


def _quantities(returned: Mapping[str, premises.Returned]) -> Quantities:
    """What the loss gives on every split.

    Raises:
        LandscapeError: It gives other numbers on one split than on another.
    """
    further = {split: each.further for split, each in returned.items()}
    if len(set(further.values())) > 1:
        found = "; ".join(f"{', '.join(names) or 'none'} on {split}" for split, names in further.items())
        raise LandscapeError(
            f"loss: returns other numbers on one split than on another ({found}); valid are the same names on every split"
        )
    return Quantities(
        accuracy=all(each.accuracy for each in returned.values()), returned=next(iter(further.values()))
    )
