"""The range of an axis that is left to the program: until the loss has risen to that of guessing, on both sides. Collective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any

import torch
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.calling import call
from mpi_landscape.evaluation.probe import Setting
from mpi_landscape.evaluation.reference import Reference
from mpi_landscape.evaluation.sums import example_sums
from mpi_landscape.evaluation.vectors import Point
from mpi_landscape.loading.nests import map_tensors
from mpi_landscape.loading.results import users_own
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.placing import Placed
from mpi_landscape.plan.rising import FARTHEST, risen
from mpi_landscape.surfaces.recomputing import Recomputing

# Of the center's loss, where the loss of guessing is not known.
_TIMES = 10.0


def rising_ranges(
    setting: Setting,
    placed: Placed,
    axes: Sequence[str],
    ranks: Ranks,
    *,
    anew: bool,
) -> dict[str, tuple[float, float]]:
    """Least and greatest coordinate of some axes, from a few passes over the first split along each of them. Collective.

    The level is the loss of guessing, where that is known (a cross-entropy of equal scores) and above the center's, and otherwise
    ten times the center's. Each side of an axis is searched by one rank, and what it finds does not depend on which.

    Args:
        setting: Network, loss and plane.
        placed: The data.
        axes: `alpha`, `beta` or both, of the directions of the setting.
        ranks: Who searches.
        anew: Whether batch statistics are made anew at every point.

    Raises:
        AgreedError: The loss does not rise so far on a side, or not from a finite number above zero.
    """
    split, examples = next(iter(placed.splits.items()))
    with ExitStack() as resources, placed.precision.computing():
        by: Recomputing | Reference = (
            resources.enter_context(Recomputing(setting, placed)) if anew else setting.reference()
        )

        def loss(point: Point) -> float:
            with closing(examples.pieces(0, examples.num_batches)) as pieces:
                (sums,) = by.tile(pieces, [point])
            return float(sums[0] / sums[2])

        found = ranks.on_root(lambda: (loss((0.0,)), _guessing(placed)))
        center, guessing = ranks.share(found) or (0.0, None)
        level, words = _level(center, guessing)
        with ranks.together():
            if not 0 < level < float("inf") or not center < level:
                raise LandscapeError(
                    f"grid: auto looks for where the {split} loss has risen to {_TIMES:g} times the center's, which is "
                    f"{center:g}; valid are numbers, such as [-1, 1, 51]"
                )
        sides = [(axis, sign) for axis in axes for sign in (-1.0, 1.0)]
        own = {}
        # What one rank raises ends the job; a level that is not reached is a result.
        for number, (axis, sign) in enumerate(sides):
            if number % ranks.size == ranks.rank:
                own[axis, sign] = risen(lambda x, axis=axis, sign=sign: loss(_at(axis, sign * x)), level)  # type: ignore[misc]
        reached: dict[tuple[str, float], float | None] = {}
        for part in ranks.gather(own):
            reached |= part
    with ranks.together():
        for (axis, sign), distance in reached.items():
            if distance is None:
                raise LandscapeError(
                    f"grid.{axis}: auto: the {split} loss does not rise to {level:.4g} ({words}) "
                    f"between 0 and {sign * FARTHEST:g}; valid are numbers, such as [-1, 1, 51]"
                )
    ranges = {axis: (-(reached[axis, -1.0] or 0.0), reached[axis, 1.0] or 0.0) for axis in axes}
    for axis, (low, high) in ranges.items():
        ranks.say(
            f"range       {axis}: the {split} loss has risen to {level:.4g} ({words}) at {low:g} and {high:g}"
        )
    return ranges


def _at(axis: str, coordinate: float) -> Point:
    return (coordinate,) if axis == "alpha" else (0.0, coordinate)


def _level(center: float, guessing: float | None) -> tuple[float, str]:
    """To which loss to look, and what it is."""
    if guessing is not None and guessing > center:
        return guessing, "that of guessing"
    return _TIMES * center, f"{_TIMES:g} times the center's"


def _guessing(placed: Placed) -> float | None:
    """The cross-entropy of equal scores for all classes; None of another loss."""
    problem = placed.problem
    is_known = problem.loss_name == "cross_entropy" or isinstance(
        users_own(problem.loss), nn.CrossEntropyLoss
    )
    if not is_known:
        return None
    examples = next(iter(placed.splits.values()))
    try:
        with closing(examples.pieces(0, 1)) as pieces:
            batch = next(pieces)[0]
        sums = example_sums(call(problem.loss, _Blank(problem.model), batch.data), batch.valid).cpu().numpy()
    except Exception:  # a loss that wants more of its network than outputs
        return None
    guessing = float(sums[0] / sums[2])
    return guessing if guessing == guessing else None


class _Blank(nn.Module):
    """A network that says nothing: all of its outputs are zero."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # Not a module of its own: nothing of the network is to be seen or changed by it.
        self._called: Mapping[str, nn.Module] = {"network": network}

    def forward(self, *arguments: Any, **named: Any) -> Any:
        outputs = self._called["network"](*arguments, **named)
        return map_tensors(torch.zeros_like, outputs)
