"""The certificate: what shows a reader of the file that its numbers are right. Collective."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.calling import is_out_of_memory
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.evaluation.lending import kept_as_it_is
from mpi_landscape.evaluation.plain import plain_sums
from mpi_landscape.evaluation.probe import Setting, differing
from mpi_landscape.evaluation.reference import Reference
from mpi_landscape.evaluation.sums import NUM_SUMS, Floats, add_in_order
from mpi_landscape.evaluation.vectors import Point
from mpi_landscape.geometry.directions import cosine
from mpi_landscape.geometry.kept import KeptPlane
from mpi_landscape.geometry.normalization import norm_ratios
from mpi_landscape.geometry.plane import Plane, axis_of
from mpi_landscape.loading.batches import Batch
from mpi_landscape.parallel.broadcast import sum_over_ranks
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.ends import ends_of, weights_of
from mpi_landscape.placement.placing import Placed
from mpi_landscape.plan.tiles import shard_bounds
from mpi_landscape.problem.checkpoints import load_state
from mpi_landscape.surfaces.engine import Trials
from mpi_landscape.surfaces.recomputing import recomputes
from mpi_landscape.surfaces.request import Request
from mpi_landscape.surfaces.rounding import check_rows
from mpi_landscape.wording import one_line, rounded

# Relative, of losses at the end of a difference, which is made of rounded numbers.
_END = 1e-3
# Points of the trials whose losses are kept in the file.
CHECKED = 4


def certify(
    placed: Placed, ranks: Ranks, evaluator: Evaluator | Reference
) -> tuple[dict[str, float], float, float]:
    """The loss at the center by the engine and by the plain network, each rank taking its share of the batches.

    Args:
        placed: The problem at its center, on its device.
        ranks: The job's ranks.
        evaluator: Put to the center.

    Returns:
        `certificate_<split>_loss` and `certificate_<split>_loss_plain`, nats per example; the seconds that one rank needs for
        a point of the grid; and by how much losses differ by rounding, relative, where that is more than is usual.

    Raises:
        AgreedError: The two differ by more than rounding.
    """
    problem = placed.problem
    facts: dict[str, float] = {}
    seconds = rounding = 0.0
    evaluator.move()
    for split, examples in placed.splits.items():
        first, stop = shard_bounds(examples.num_batches, ranks.size, ranks.rank)
        rows = np.zeros((2, examples.num_batches, NUM_SUMS))
        with closing(examples.pieces(first, stop)) as pieces:
            for share in pieces:
                start = time.perf_counter()
                with placed.precision.computing():
                    rows[0, first : first + len(share)] = _sums(evaluator, share, split, first)
                seconds += time.perf_counter() - start
                rows[1, first : first + len(share)] = plain_sums(
                    problem.model,
                    problem.loss,
                    share,
                    device=placed.device,
                    dtype=placed.precision.network,
                    gradients=placed.gradients,
                )
                first += len(share)
        rows = sum_over_ranks(ranks, rows)
        totals = [add_in_order(part) for part in rows]
        with ranks.together():
            if totals[0][2] == 0:
                raise LandscapeError(
                    f"loss: no example of split {split} counts (every 'count', or every label, says so), so there is no mean; "
                    f"valid is a loss of which at least one does"
                )
        engine, plain = (total[0] / total[2] for total in totals)
        # The sums are the same on every rank, and so is a refusal.
        # One of fewer bits may differ.
        if not placed.precision.approximate:
            found = ranks.on_root(lambda split=split, rows=rows: check_rows(placed, split, rows))  # type: ignore[misc]
            rounding = max(rounding, ranks.share(found) or 0.0)
        facts[f"certificate_{split}_loss"] = float(engine)
        facts[f"certificate_{split}_loss_plain"] = float(plain)
        if not np.isfinite(engine):
            ranks.say(f"warning: the {split} loss at the center is {engine}; the surface may mean little")
    # One pass was shared by all ranks, so a whole point takes one rank as long as all shares together.
    return facts, float(sum(ranks.gather(seconds))), rounding


def _sums(evaluator: Evaluator | Reference, share: Sequence[Batch], split: str, first: int) -> Floats:
    """The sums of some batches; what a network or a loss raises for some examples alone is put in words.

    Raises:
        LandscapeError: It raised.
    """
    try:
        return evaluator.batch_sums(share)[:, :NUM_SUMS]
    except LandscapeError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise LandscapeError(
            f"loss: in batches {first} to {first + len(share) - 1} of split {split!r}, at the center, the network or the loss "
            f"raised {type(error).__name__}: {one_line(error)}"
        ) from error


def certify_points(
    setting: Setting, trials: Trials, evaluator: Evaluator | Reference, placed: Placed, ranks: Ranks
) -> dict[str, NDArray[np.float64]]:
    """Losses of the trial examples at some points, by the engine and by the network itself, from rank 0. Collective.

    Returns:
        `checked_points` (points, axes); `checked_<split>_loss` and `checked_<split>_loss_plain` (points,), nats per example.
    """
    points = list(trials.points[:CHECKED])

    def look() -> dict[str, NDArray[np.float64]]:
        reference, facts = setting.reference(), {"checked_points": np.array(points)}
        for split, batches in trials.batches.items():
            if setting.kept is not None:  # where the two are one, and to get to a point takes long
                facts[f"checked_{split}_loss"] = _means(reference, batches, points)
                facts[f"checked_{split}_loss_plain"] = facts[f"checked_{split}_loss"]
                continue
            # The network itself in no fewer bits, as it is looked at again afterwards.
            for name, by, mode in (
                ("", evaluator, placed.precision.computing),
                ("_plain", reference, nullcontext),
            ):
                with mode():
                    facts[f"checked_{split}_loss{name}"] = _means(by, batches, points)
        evaluator.move()
        return facts

    facts: dict[str, NDArray[np.float64]] = ranks.share(ranks.on_root(look) or {})
    return facts


def _means(
    by: Evaluator | Reference, batches: Sequence[Batch], points: Sequence[Point]
) -> NDArray[np.float64]:
    """(points,) the mean loss of some batches, over whatever it is that counts."""
    tile = by.tile([batches], points)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        means: NDArray[np.float64] = tile[:, 0] / tile[:, 2]
    return means


def warnings_about(checked: Mapping[str, NDArray[np.float64]]) -> list[str]:
    """What a reader of a picture should know of what `certify_points` found: that the loss follows nothing that moves."""
    losses = [value for name, value in checked.items() if name.endswith("_loss_plain")]
    if losses and all(np.ptp(each) == 0 for each in losses):
        return [
            "the loss is the same at all points that were tried: it does not follow the parameters that move"
        ]
    return []


def certify_ends(
    request: Request, setting: Setting, trials: Trials, ranks: Ranks
) -> dict[str, NDArray[np.float64]]:
    """The loss of the trial examples at the end of a difference, and with the checkpoint that it leads to. Collective.

    The checkpoint is put into the network itself, parameters and buffers; where the two losses differ, the end is not the
    end, which is said.

    Returns:
        `checked_<axis>_end` (2,): at coordinate 1, and of the checkpoint, nats per example; of each axis that has an end.

    Raises:
        AgreedError: A checkpoint cannot be read.
    """

    def look() -> dict[str, NDArray[np.float64]]:
        model, reference, found = setting.model, setting.reference(), {}
        for axis, said in ends_of(request.directions).items() if not recomputes(request) else ():
            point = (1.0,) if axis == "alpha" else (0.0, 1.0)
            here = reference.losses(trials.all_batches, point)
            with kept_as_it_is(model):
                weights = weights_of(axis, said, request.problem.ends)
                load_state(model, weights.state, where=f"{request.problem.where}: directions.{axis}.to")
                there = reference.losses_here(trials.all_batches)
            if differing(here, there, _END) is not None:
                ranks.say(
                    f"warning: {axis} = 1 is not the end: the loss of {here.size} examples is {here.mean():.6g} there, and "
                    f"{there.mean():.6g} with {said.to}; buffers of the network, or what it keeps besides, stay at the center's"
                )
            found[f"checked_{axis}_end"] = np.array([here.mean(), there.mean()])
        return found

    return ranks.share(ranks.on_root(look) or {})


def check_unchanged(
    facts: Mapping[str, Any],
    setting: Setting,
    trials: Trials,
    evaluator: Evaluator | Reference,
    placed: Placed,
    ranks: Ranks,
) -> None:
    """Refuse what has changed while it was evaluated: what `certify_points` found holds still, on every rank. Collective.

    Raises:
        AgreedError: It does not.
    """
    points = list(trials.points[:CHECKED])
    with ranks.together():
        for split, batches in trials.batches.items():
            name = f"checked_{split}_loss"
            with placed.precision.computing():
                now = _means(evaluator, batches, points)
            _compare(facts[name], now, split, points, rounding=1e-5)
            if ranks.is_root and setting.kept is None:
                now = _means(setting.reference(), batches, points)
                _compare(facts[f"{name}_plain"], now, split, points, rounding=1e-6)


def _compare(
    before: NDArray[np.float64],
    now: NDArray[np.float64],
    split: str,
    points: Sequence[Point],
    *,
    rounding: float,
) -> None:
    for point, was, found in zip(points, before, now, strict=True):
        same = found == was or (np.isnan(found) and np.isnan(was))
        near = np.isfinite(was) and abs(found - was) <= rounding * abs(was)
        if not same and not near:
            raise LandscapeError(
                f"model: the {split} loss of a few examples at {rounded(point)} was {was:.9g} before the first tile and is "
                f"{found:.9g} after the last one: the network or the loss keeps something from pass to pass, so the values "
                f"in the file depend on their order; let it forget, and use --overwrite"
            )


def certify_directions(plane: Plane | KeptPlane) -> dict[str, float]:
    """Least and greatest ratio of a moved filter's norm to the center's, and the cosine between the directions of a plane."""
    if isinstance(plane, KeptPlane):
        return _certify_kept(plane)
    found: dict[str, list[NDArray[np.float64]]] = {}
    for name, vector in plane.directions.items():
        ratios = norm_ratios(vector, plane.center, plane.layout)
        moved = ratios[np.isfinite(ratios) & (ratios > 0)]
        found.setdefault(axis_of(name), []).append(
            moved[[moved.argmin(), moved.argmax()]] if moved.size else moved
        )
    facts: dict[str, float] = {}
    for axis, ends in found.items():
        # Of several lines, over all of them.
        moved = np.concatenate(ends)
        facts[f"certificate_{axis}_norm_ratio_min"] = float(moved.min()) if moved.size else np.nan
        facts[f"certificate_{axis}_norm_ratio_max"] = float(moved.max()) if moved.size else np.nan
    if len(found) == 2:
        facts["certificate_cosine"] = cosine(*plane.directions.values())
    return facts


def _certify_kept(plane: KeptPlane) -> dict[str, float]:
    facts: dict[str, float] = {}
    for place, name in enumerate(plane.directions):
        found = [look.ratios[place] for look in plane.looks]
        ends = [each for each in found if each is not None]
        facts[f"certificate_{name}_norm_ratio_min"] = min((low for low, _ in ends), default=np.nan)
        facts[f"certificate_{name}_norm_ratio_max"] = max((high for _, high in ends), default=np.nan)
    if len(plane.directions) == 2:
        facts["certificate_cosine"] = plane.cosine
    return facts
