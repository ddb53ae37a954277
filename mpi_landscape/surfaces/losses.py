"""The losses of a surface, ready to be computed: engine chosen, center measured, plan made. Collective.

What can be refused is refused here, by all ranks together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError, LostRankError
from mpi_landscape.evaluation.calling import is_out_of_memory
from mpi_landscape.evaluation.computed import Computing, Rereading, columns
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.evaluation.probe import Setting
from mpi_landscape.evaluation.reference import Reference
from mpi_landscape.geometry.kept import KeptPlane
from mpi_landscape.geometry.moving import warnings_of
from mpi_landscape.geometry.plane import Plane
from mpi_landscape.loading.batches import Examples
from mpi_landscape.parallel.devices import device_name
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Stopped
from mpi_landscape.placement.memory import out_of_memory
from mpi_landscape.placement.placing import Placed
from mpi_landscape.plan import cost
from mpi_landscape.plan.grid import Grid
from mpi_landscape.plan.tiles import Plan
from mpi_landscape.surfaces import sampling
from mpi_landscape.surfaces.certificate import (
    certify,
    certify_directions,
    certify_ends,
    certify_points,
    warnings_about,
)
from mpi_landscape.surfaces.engine import Trials, agree, trials_of
from mpi_landscape.surfaces.evaluating import (
    check_copied,
    computing_of,
    evaluator_of,
    seconds_of,
    seconds_to,
    setting_of,
)
from mpi_landscape.surfaces.identity import identity_of
from mpi_landscape.surfaces.planning import cut_data, make_plan, points_at_once
from mpi_landscape.surfaces.precision_error import measure_error
from mpi_landscape.surfaces.recomputing import Recomputing, recomputes
from mpi_landscape.surfaces.recomputing import words as recomputed_words
from mpi_landscape.surfaces.request import Request
from mpi_landscape.surfaces.rounding import rounding_words
from mpi_landscape.surfaces.sampling import Sampling
from mpi_landscape.surfaces.searching import attributes_of, check_search, way_of
from mpi_landscape.surfaces.watching import Watch


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The losses around a center; their vectors are the evaluator's.

    Attributes:
        placed: The problem on its device.
        request: What was asked for.
        num_parameters: Numbers in a flat vector.
        num_tensors: Tensors in it.
        evaluator: At the center.
        tiles: What evaluates tiles: the evaluator, or what makes statistics anew besides.
        further: What computes the quantities that are no sums of the loss, in their order.
        splits: The data, of samples in their order.
        plan: The tiles.
        identity: What defines the numbers; on rank 0.
        certificate: What shows that they are right.
        facts: More for the file to say of itself.
        watch: Looks at some of the tiles.
        setting: Network, loss and plane.
        trials: A few examples, and where they are evaluated before and after the work.
        seconds_per_point: What one rank needs for a point, over all splits.
        orders: For a plan of samples, the order of each split's examples.
    """

    placed: Placed
    request: Request
    num_parameters: int
    num_tensors: int
    evaluator: Evaluator | Reference
    tiles: Evaluator | Reference | Recomputing
    further: Sequence[Computing | Rereading]
    splits: Mapping[str, Examples]
    plan: Plan
    identity: Mapping[str, str]
    certificate: Mapping[str, float]
    facts: Mapping[str, Any]
    watch: Watch
    setting: Setting
    trials: Trials
    seconds_per_point: float
    orders: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    @property
    def saves_vectors(self) -> bool:
        """Whether the file holds center and directions: where tensors keep their types there are no such vectors."""
        return self.request.compute.save_vectors and self.setting.kept is None

    @property
    def recomputes(self) -> bool:
        """Whether every point has statistics of its own."""
        return self.tiles is not self.evaluator

    @property
    def grid(self) -> Grid:
        """The points."""
        return self.request.grid

    @property
    def tile_seconds(self) -> float:
        """What the longest tile is expected to take."""
        # The cost of a split goes with its batches.
        batches = [self.splits[split].num_batches for split, _ in self.plan.shards]
        return cost.longest_tile(
            self.plan, self.seconds_per_point, [count / sum(batches) for count in batches]
        )

    def __enter__(self) -> Losses:
        return self

    def __exit__(self, *error: object) -> None:
        self.evaluator.__exit__(*error)
        if self.recomputes:
            self.tiles.__exit__(*error)
        for each in self.further:
            each.__exit__(*error)

    def row(self, index: int, between: Callable[[], None]) -> NDArray[np.float64]:
        """(num_points, num_columns) float64 of a tile.

        Raises:
            LandscapeError: Memory does not suffice, or the network or the loss raises at a point.
        """
        tile = self.plan.tile(index)
        examples = self.splits[tile.split]
        first, stop = self.plan.batches(tile, examples.num_batches, examples.batch_size)
        coordinates = self.grid.coordinates(self.grid.points(np.arange(tile.start, tile.stop)))
        points = list(zip(*(each.tolist() for each in coordinates), strict=True))
        pieces_of_tile = partial(examples.pieces, first, stop, between)
        start = time.perf_counter()
        try:
            with self.placed.precision.computing(), closing(pieces_of_tile()) as pieces:
                row = self.tiles.tile(pieces, points, between)
            if self.orders:
                sampling.check_uncounted(
                    row, min(stop * examples.batch_size, examples.num_examples) - first * examples.batch_size
                )
            self.watch.look(
                index,
                points,
                lambda low, high: examples.pieces(first + low, first + high, between),
                stop - first,
                row,
                time.perf_counter() - start,
            )
            further = [
                columns(each, pieces_of_tile, points, between, losses=row[:, 0]) for each in self.further
            ]
            return np.concatenate([row, *further], axis=1)
        except Exception as error:
            if is_out_of_memory(error):
                raise out_of_memory(error, f"tile {index}", examples.batch_size) from error
            if not isinstance(error, LandscapeError | LostRankError | Stopped | OSError):
                # The network itself says at which point, if it is at fault.
                with closing(pieces_of_tile()) as pieces:
                    self.setting.reference().tile(pieces, points, between)
            raise


def prepare_losses(
    request: Request, placed: Placed, plane: Plane | KeptPlane, ranks: Ranks, before: sampling.Before | None
) -> Losses:
    """Choose the engine, measure the center, make the plan. Collective.

    Args:
        request: What to compute.
        placed: Its problem on the device.
        plane: Around the network's parameters.
        ranks: Who computes.
        before: The file that may be continued; None without one.

    Returns:
        The losses, which the caller closes, by `with`.

    Raises:
        AgreedError: A premise does not hold.
    """
    compute, grid, splits = request.compute, request.grid, placed.splits
    decided = sampling.decisions(before)
    setting = setting_of(placed, plane)
    if request.search is not None:
        with ranks.together():
            said = check_search(setting, placed, request.search)
        for line in said:
            ranks.say(line)
    trials = trials_of(placed, grid)
    choice = agree(setting, trials, request, placed, ranks, decided.engine)
    engine = choice.engine
    with ranks.together():
        shards = cut_data(request, placed, decided.shards)
    sampled, found = sampling.wanted(ranks, before, compute.relative_error)
    if sampled:
        with ranks.together():
            sampling.check_whole_rows(splits)
    # Rank 0's number for all: it is in the plan.
    at_once = (
        1
        if sampled or placed.on_gpu or choice.alone
        else ranks.share(points_at_once(placed, shards, plane.layout.size))
    )
    with ranks.together():
        check_copied(choice, placed)
        evaluator = evaluator_of(setting, placed, choice, at_once)
        further = computing_of(setting, placed, choice, request)
    way = way_of(further, placed, ranks) if request.search else ""
    with ranks.together():
        recomputing = Recomputing(setting, placed).__enter__() if recomputes(request) else None
    errors, inexact = dict[str, float](), ""
    if placed.precision.approximate:
        # Before the whole center is measured: a network that cannot be computed so shows itself here.
        first = next(iter(splits.values()))
        errors, inexact = measure_error(setting, evaluator, placed.precision, grid, first, ranks)
    certificate, seconds, rounding = certify(placed, ranks, evaluator)
    rounding = max(rounding, choice.rounding)
    checked = certify_points(setting, trials, evaluator, placed, ranks)
    checked |= certify_ends(request, setting, trials, ranks)
    warnings = [
        *filter(None, [inexact, rounding_words(rounding, placed.precision)]),
        *warnings_about(checked),
    ]
    for line in warnings:
        ranks.say(f"warning: {line}")
    # These were said with the plane.
    warnings = [*warnings_of(plane), *warnings]
    # The center alone kept one point's threads busy.
    seconds = seconds / at_once + (ranks.share(ranks.on_root(lambda: seconds_of(further, placed))) or 0.0)
    if setting.kept is not None:
        seconds += len(shards) * (
            ranks.share(ranks.on_root(lambda: seconds_to(trials.points[-1], setting))) or 0.0
        )
    if recomputing is not None:
        seconds += len(shards) * (ranks.share(ranks.on_root(recomputing.seconds)) or 0.0)
    plan = make_plan(request, placed, shards, engine, at_once, seconds, decided.points_per_tile)
    chosen: Sampling | None = None
    if sampled and (found is None or found.fits(splits)):
        chosen = found or sampling.draw(ranks, evaluator, splits, grid, placed.precision)
        with ranks.together():
            plan = sampling.sampled_plan(grid, compute, chosen, list(splits))
        splits = {split: each.reordered(chosen.orders[split]) for split, each in splits.items()}
    identity = identity_of(placed, plane, request, splits, plan, engine) if ranks.is_root else {}
    return Losses(
        placed=placed,
        request=request,
        num_parameters=plane.layout.size,
        num_tensors=len(plane.layout.entries),
        evaluator=evaluator,
        tiles=recomputing or evaluator,
        further=further,
        splits=splits,
        plan=plan,
        identity=identity
        | ({"samples": chosen.text} if chosen else {})
        | ({"batch_norm": recomputed_words(placed)} if recomputing else {})
        | ({"hessian": f"{request.search.text}; {way}"} if request.search else {}),
        certificate=certificate | certify_directions(plane),
        facts={
            "device": device_name(placed.device),
            "ranks": str(ranks.size),
            "threads_per_rank": str(placed.threads),
            "batch_size": placed.batch_size,
            "engine": engine.text(),
            "arithmetic": placed.arithmetic,
            **({"weights": f"kept: {plane.types}"} if isinstance(plane, KeptPlane) else {}),
            **errors,
            **checked,
            **(attributes_of(setting, request.search, way) if request.search else {}),
            **({"warnings": "; ".join(warnings)} if warnings else {}),
        },
        watch=Watch(setting, choice, placed.precision, evaluator),
        setting=setting,
        trials=trials,
        seconds_per_point=seconds,
        orders=chosen.orders if chosen else {},
    )
