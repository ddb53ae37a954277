"""Labels that a named loss cannot take are refused before the first loss."""

from __future__ import annotations

from contextlib import closing

import torch
from torch import nn

from mpi_landscape.loading.batches import Examples
from mpi_landscape.loading.resident import Resident
from mpi_landscape.problem import losses
from mpi_landscape.problem.build import Problem

# Labels of a streamed split that are looked at, the first ones.
_LABELS = 1024


def check_labels(problem: Problem, network: nn.Module, examples: Examples) -> None:
    """Refuse labels that the problem's loss cannot take; of a user's own loss nothing is known.

    On a GPU such a label would end the whole process, so this comes before the first loss.

    Raises:
        LandscapeError: A batch holds one.
    """
    if problem.loss_name is None:
        return
    stop = examples.num_batches
    if not isinstance(examples, Resident):
        # Reading all of a split that is not kept costs as much as a point.
        stop = min(stop, -(-_LABELS // examples.batch_size))
    outputs = None
    with closing(examples.pieces(0, stop)) as pieces:
        for number, batch in enumerate(batch for piece in pieces for batch in piece):
            inputs, targets = losses.split_batch(batch.data)
            if outputs is None:
                with torch.no_grad():
                    outputs = network(inputs)
            place = f"{problem.where}: data, split {examples.split}, batch {number} of {examples.batch_size}"
            losses.check_targets(problem.loss_name, outputs, targets, where=place)
