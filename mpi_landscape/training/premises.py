"""What must hold before the first step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mpi_landscape.configuration.sections.training import Phase
from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.training.feed import Feed
from mpi_landscape.training.recipe import Recipe, batch_sizes, piece_sizes


def check_smallest_pieces(
    model: nn.Module, loss: LossFunction, feed: Feed, recipe: Recipe, *, prepare: Callable[[Any], Any]
) -> None:
    """Check that batch normalization takes the smallest piece of every phase.

    A piece of one example can leave one value per channel, which has no variance; without this, the last batch of the
    first epoch would be where that shows. The model is left untouched; `prepare` is applied to the batch.

    Raises:
        LandscapeError: Batch normalization does not take it; the message names the sizes.
    """
    alone = [phase for phase in recipe.phases if phase.epochs and _smallest(phase, recipe, len(feed)) == 1]
    has_normalization = any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())
    if not alone or not has_normalization:
        return
    (batch,) = feed.batches(torch.zeros(1, dtype=torch.int64), 1)
    try:
        with torch.no_grad():
            loss(copy.deepcopy(model).train(), prepare(batch))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise LandscapeError(
            f"training.batch_size: {alone[0].batch_size} of {len(feed)} examples leaves one by itself, "
            f"which batch normalisation cannot take; choose another batch_size or piece_size"
        ) from error


def _smallest(phase: Phase, recipe: Recipe, num_examples: int) -> int:
    return min(piece_sizes(size, recipe.piece_size)[-1] for size in batch_sizes(phase, num_examples))
