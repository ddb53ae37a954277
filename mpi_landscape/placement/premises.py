"""Premises of every evaluation, looked at on real batches before any work."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

import torch

from mpi_landscape.evaluation import premises
from mpi_landscape.evaluation.replica import own_copy
from mpi_landscape.loading.batches import Examples
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.labels import check_labels
from mpi_landscape.problem.build import Problem


def check_premises(
    problem: Problem,
    ranks: Ranks,
    splits: Mapping[str, Examples],
    device: torch.device,
    dtype: torch.dtype,
) -> bool:
    """Every rank tries one batch; rank 0 alone looks at the data again. Returns whether there is an accuracy.

    Raises:
        LandscapeError: A premise does not hold.
    """
    network = own_copy(problem.model).to(device, dtype).eval()
    accuracies = set()
    for split, examples in splits.items():
        with closing(examples.pieces(0, 1)) as pieces:
            batch = next(pieces)[0]
        if ranks.is_root:
            check_labels(problem, network, examples)
        result = premises.call_loss(problem.loss, network, batch)
        accuracies.add(premises.check_loss(result, examples.batch_size))
        premises.check_repeatable(problem.loss, network, batch)
        if ranks.is_root:
            premises.check_rereading(examples, problem.splits[split], device, dtype)
    return accuracies == {True}
