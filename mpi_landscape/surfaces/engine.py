"""The engine of a run, which rank 0 finds out on a few real examples before the work begins. Collective.

None of it goes by the clock, so two runs of one configuration on one kind of machine decide the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation import choosing, premises
from mpi_landscape.evaluation.choosing import Choice
from mpi_landscape.evaluation.engine.description import Engine
from mpi_landscape.evaluation.engine.steps import engine_of, steps_of
from mpi_landscape.evaluation.grouping import check_grouping, rounding_of
from mpi_landscape.evaluation.probe import (
    MOST_EXAMPLES,
    Setting,
    differing,
    grouped,
    losses_in,
    probe_points,
    trial_examples,
)
from mpi_landscape.evaluation.sums import Floats
from mpi_landscape.evaluation.vectors import Point
from mpi_landscape.loading.batches import Batch, Examples
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.placing import Placed
from mpi_landscape.plan.grid import Grid
from mpi_landscape.surfaces import evaluating
from mpi_landscape.surfaces.recomputing import recomputes
from mpi_landscape.surfaces.request import Request
from mpi_landscape.wording import rounded


@dataclass(frozen=True, kw_only=True)
class Trials:
    """A few examples from all of the data, and where the network is tried on them.

    Attributes:
        batches: By split.
        regrouped: The same examples in the reverse order and other batches, by split.
        points: The center first.
    """

    batches: Mapping[str, Sequence[Batch]]
    regrouped: Mapping[str, Sequence[Batch]]
    points: Sequence[Point]

    @property
    def all_batches(self) -> list[Batch]:
        """Of all splits."""
        return [batch for batches in self.batches.values() for batch in batches]


def trials_of(placed: Placed, grid: Grid) -> Trials:
    """Choose examples and points, the same on every rank."""
    most = max(8, MOST_EXAMPLES // len(placed.splits))
    chosen = {split: trial_examples(examples, most) for split, examples in placed.splits.items()}

    def batches(split: str, indices: Sequence[int], size: int) -> list[Batch]:
        return grouped(placed.splits[split], indices, size, placed.batch_size)

    # Uneven batches, no larger than those of the work.
    return Trials(
        batches={split: batches(split, found, -(-5 * len(found) // 8)) for split, found in chosen.items()},
        regrouped={
            split: batches(split, found[::-1], -(-2 * len(found) // 7)) for split, found in chosen.items()
        },
        points=_points_of(grid),
    )


def _points_of(grid: Grid) -> list[Point]:
    """Where the network is tried: of several lines each in turn, and each at least once, as every direction is rewritten."""
    axes = [(axis.min, axis.max) for axis in (grid.alpha, grid.beta) if axis is not None]
    points = probe_points(axes)
    if not grid.seeds:
        return points
    places = [place for (place,) in points[1:]] or [grid.alpha.min]
    count = max(len(grid.seeds), len(places))
    found = [grid.along(each % len(grid.seeds), places[each % len(places)]) for each in range(count)]
    return list(dict.fromkeys([grid.along(0, 0.0), *found]))


def agree(
    setting: Setting, trials: Trials, request: Request, placed: Placed, ranks: Ranks, before: str | None
) -> Choice:
    """How the points of a run are evaluated, on every rank; what was dropped goes to the log. Collective.

    Args:
        setting: Network, loss and plane.
        trials: On which it is found out.
        request: What was asked for.
        placed: The data.
        ranks: Who computes.
        before: The engine's text in the file that may be continued; None without one.

    Raises:
        AgreedError: A premise does not hold away from the center, or ranks compute different losses.
    """
    found_rounding = ranks.on_root(lambda: _check_grouping(setting, trials, placed))
    rounding: float = ranks.share(found_rounding) or 0.0
    _check_ranks(setting, trials, ranks, placed.precision.rounding)
    decided = ranks.on_root(lambda: _decided(setting, trials, request, placed, before))
    found = (decided.engine.text(), decided.in_place, decided.alone, decided.dropped) if decided else None
    text, in_place, alone, dropped = ranks.share(found) or ("", False, False, ())
    for line in dropped:
        ranks.say(f"engine      {line}")
    if ranks.is_root:
        unused = _unused(setting, trials)
        if unused is not None:
            ranks.say(unused)
    return Choice(engine=engine_of(text), in_place=in_place, alone=alone, dropped=dropped, rounding=rounding)


def _unused(setting: Setting, trials: Trials) -> str | None:
    """Which parameters enter no operation, in a line for people; None where all do."""
    unused: list[str] | None = None
    # One at a time: what is watched of a batch is in memory as long as it is.
    for batch in trials.all_batches:
        flow = premises.seen(setting.loss, setting.model, [batch], gradients=setting.gradients)
        if flow is None:
            return None
        unused = [name for name in flow.unused if unused is None or name in unused]
    if not unused:
        return None
    more = f" and {len(unused) - 3} more" if len(unused) > 3 else ""
    return (
        f"warning: {', '.join(unused[:3])}{more}: a pass does not use them, so the loss does not change as they move; a "
        f"network that keeps what it has made of its parameters (a cache, a merged adapter) does not follow them"
    )


def _decided(
    setting: Setting, trials: Trials, request: Request, placed: Placed, before: str | None
) -> Choice:
    """That of the file which may be continued, where it is right, otherwise what passes the trials."""
    asked, dtype = request.compute.engine, placed.precision.data
    if asked == "plain" or placed.precision.kept or recomputes(request):
        return Choice(in_place=True, alone=True)
    steps = _steps_before(before) if before is not None and asked == "auto" else None
    return choosing.choose(
        setting,
        trials.all_batches,
        trials.points,
        dtype=dtype,
        steps=steps_of(
            asked,
            plain_gpu=placed.on_gpu and not placed.precision.approximate,
            large=setting.layout.size >= evaluating.LARGE,
        ),
        threads=1 if placed.on_gpu else placed.threads,
        before=steps,
        spare=evaluating.is_spared(setting, placed),
    )


def _steps_before(text: str) -> Engine | None:
    try:
        return engine_of(text)
    except LandscapeError:  # of another version: the file's identity is checked later
        return None


def _check_grouping(setting: Setting, trials: Trials, placed: Placed) -> float:
    """Every example has the same loss in other batches: at the center and at two places off it. As `check_grouping`."""
    reference, rounding = setting.reference(), 0.0
    finer = placed.precision.finer
    for split, batches in trials.batches.items():
        count = sum(batch.valid for batch in batches)
        orders = [range(count), range(count)[::-1]]
        groupings = [batches, trials.regrouped[split]]
        try:
            found = check_grouping(
                reference,
                groupings,
                trials.points[:3],
                orders,
                None if finer is None else partial(losses_in, finer, setting),
                rounding_of(placed.precision.data),
            )
        except LandscapeError as error:
            if placed.splits[split].whole_rows():
                raise
            raise LandscapeError(
                f"{error}; its batches are padded to their longest item, so what is padding must be masked (an attention_mask, "
                f"labels of -100, lengths)"
            ) from error
        rounding = max(rounding, found)
        premises.check_reading(setting.loss, setting.model, batches[0], gradients=setting.gradients)
    return rounding


def _check_ranks(setting: Setting, trials: Trials, ranks: Ranks, rounding: float) -> None:
    """The same losses on every rank, at a point off the center, but for the rounding of another kind of processor.

    Raises:
        AgreedError: A network, a loss or data differ between ranks.
    """
    if ranks.size == 1:
        return
    point = trials.points[min(2, len(trials.points) - 1)]
    with ranks.together():
        own = setting.reference().losses(trials.all_batches, point)
    wanted = np.array(ranks.share(own.tolist()))
    with ranks.together():
        _compare(own, wanted, point, rounding)


def _compare(own: Floats, wanted: Floats, point: Point, rounding: float) -> None:
    place = differing(own, wanted, rounding) if own.shape == wanted.shape else 0
    if place is not None:
        raise LandscapeError(
            f"model: at {rounded(point)} the loss of an example is {own[place]:.9g} here and "
            f"{wanted[place]:.9g} on rank 0; valid are a network, a loss and data that are built alike on every rank (fixed "
            f"seeds, no order from a set)"
        )


def first_batches(examples: Examples, count: int) -> list[Batch]:
    """The first batches of a split, wherever it is held."""
    with closing(examples.pieces(0, count)) as pieces:
        return [batch for piece in pieces for batch in piece]
