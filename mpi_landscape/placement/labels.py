"""Labels that a named loss cannot take, refused before the first loss: on a GPU such a label ends the whole process."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Examples
from mpi_landscape.loading.resident import Resident
from mpi_landscape.problem.build import Problem
from mpi_landscape.problem.losses import check_targets, split_batch

# Labels of a streamed split that are looked at, the first ones: reading all of it costs as much as a point.
_STREAMED = 1024


def check_labels(problem: Problem, network: nn.Module, examples: Examples) -> None:
    """Refuse labels of a split that the problem's loss cannot take; of a user's own loss nothing is known.

    Raises:
        LandscapeError: There is one, or an item cannot be read.
    """
    if problem.loss_name is None:
        return
    stop = examples.num_batches
    if not isinstance(examples, Resident):
        stop = min(stop, -(-_STREAMED // examples.batch_size))
    with closing(examples.pieces(0, stop)) as pieces:
        batches = enumerate(batch.data for piece in pieces for batch in piece)
        refuse_labels(
            problem.loss_name,
            network,
            ((f"batch {number} of {examples.batch_size}", data) for number, data in batches),
            where=f"{problem.where}: data, split {examples.split}",
        )


def refuse_labels(loss: str, network: nn.Module, batches: Iterable[tuple[str, Any]], *, where: str) -> None:
    """Refuse labels of batches that a named loss cannot take.

    Args:
        loss: The name of the loss.
        network: In evaluation mode, where the batches are; called once, with two examples.
        batches: Each with what messages call it, in the order of the examples.
        where: What they are batches of, for messages.

    Raises:
        LandscapeError: There is one; the message names the first.
    """
    outputs = None
    for name, batch in batches:
        inputs, targets = split_batch(batch)
        if outputs is None:
            with torch.no_grad():
                outputs = network(nests.rows(inputs, 0, 2))
        check_targets(loss, _as_many(outputs, len(targets)), targets, where=f"{where}, {name}")


def _as_many(outputs: Any, number: int) -> Any:
    """Outputs of so many examples, of which only the shape counts; of another kind as they are, to be refused."""
    if isinstance(outputs, Tensor) and outputs.ndim:
        return outputs[:1].expand(number, *outputs.shape[1:])
    return outputs
