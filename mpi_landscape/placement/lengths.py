"""Items of several sizes in batches of about equal ones, the same on every rank. Collective."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.collated import Collated, by_length, padding
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.problem.build import Problem
from mpi_landscape.wording import one_line

# By which the saving is told, before the size of a batch is known.
_TYPICAL = 32


def sorted_by_length(problem: Problem, ranks: Ranks) -> Problem:
    """The problem with its padded splits in the order of their items' lengths; rank 0 looks for all. Collective.

    A loss is a sum over examples, in whatever order; a batch is padded to its longest item, and what is padding is computed
    as well.

    Raises:
        AgreedError: An item cannot be read.
    """
    collated = {split: each for split, each in problem.splits.items() if isinstance(each, Collated)}
    if not collated:
        return problem
    read = ranks.on_root(lambda: {split: _lengths(split, each) for split, each in collated.items()})
    splits = dict(problem.splits)
    for split, lengths in (ranks.share(read) or {}).items():
        if lengths is None or len(lengths) != len(collated[split]):
            continue
        order = by_length(lengths)
        splits[split] = collated[split].reordered(order)
        before, after = (padding(each, _TYPICAL) for each in (lengths, lengths[order]))
        ranks.say(
            f"lengths     {split}: items of {lengths.min()} to {lengths.max()} numbers, batches by length: {after:.2f} are "
            f"computed for one that is given ({before:.2f} in the order of the data)"
        )
    return replace(problem, splits=splits)


def _lengths(split: str, dataset: Collated) -> NDArray[np.int64] | None:
    try:
        return dataset.lengths()
    except Exception as error:
        raise LandscapeError(
            f"data: an item of split {split!r} could not be read: {type(error).__name__}: {one_line(error)}"
        ) from error
