"""Engine and network at the center, batch by batch: what differs by rounding alone is said, anything else refused."""

from __future__ import annotations

from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.grouping import is_rounding, rounding_of
from mpi_landscape.evaluation.plain import check_batches, check_plain, far_batches, plain_sums
from mpi_landscape.evaluation.precision import Precision
from mpi_landscape.evaluation.probe import in_type_of
from mpi_landscape.evaluation.sums import add_in_order
from mpi_landscape.placement.placing import Placed

# Batches that are evaluated in finer numbers, where engine and network differ.
_LOOKED_AT = 4


def rounding_words(rounding: float, precision: Precision) -> str:
    """What a reader of a picture should know of a network that rounds more than is usual; "" of others."""
    if not rounding:
        return ""
    if precision.data.itemsize < 4:
        kind = str(precision.data).removeprefix("torch.")
        return (
            f"{kind} losses of this network differ by up to {rounding:.1e} (relative) from one batch to another, by rounding "
            f"alone, as {str(precision.finer).removeprefix('torch.')} shows where the network can be computed in it"
        )
    return (
        f"float32 losses of this network differ by up to {rounding:.1e} (relative) from one batch to another, by rounding "
        f"alone, as float64 shows: it is badly conditioned; compute.precision: float64 is exact"
    )


def check_rows(placed: Placed, split: str, rows: NDArray[np.float64]) -> float:
    """Refuse a split's batches in which engine and network differ, unless finer numbers say that this is rounding.

    Returns:
        By how much they differ then, relative.
    """
    engine, plain = rows
    means = [float(add_in_order(part)[0] / part[:, 2].sum()) for part in rows]
    try:
        check_plain(split, *means)
        check_batches(split, engine, plain)
    except LandscapeError:
        if placed.precision.finer is None:
            raise
        sizes = plain[:, 2]
        with np.errstate(invalid="ignore", over="ignore"):
            gaps = np.abs(engine[:, 0] - plain[:, 0]) / sizes
        # Those that differ, or, where only the mean does, the batch that differs most.
        far = np.flatnonzero(far_batches(engine, plain))
        places: list[int] = (far if far.size else np.arange(len(gaps))).tolist()
        numbers = sorted(places, key=lambda number: -gaps[number])[:_LOOKED_AT]
        found = [_rounding_of(placed, split, number, rows[:, number]) for number in numbers]
        if None in found or not found:
            raise
        return max(each for each in found if each is not None)
    return 0.0


def _rounding_of(placed: Placed, split: str, number: int, rows: NDArray[np.float64]) -> float | None:
    """By how much the mean and the root mean square of a batch differ by rounding; None where finer numbers show it, too."""
    examples, problem, finer = placed.splits[split], placed.problem, placed.precision.finer
    assert finer is not None
    allowed = rounding_of(placed.precision.data)

    def sizes(row: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.array([row[0] / row[2], np.sqrt(row[3] / row[2])])

    if not np.isfinite(rows[:, [0, 3]]).all():
        return None
    try:
        with closing(examples.pieces(number, number + 1)) as pieces:
            batches = list(in_type_of(finer, next(pieces)))
        whole, cut = (
            plain_sums(
                problem.model, problem.loss, batches, device=placed.device, dtype=finer,
                gradients=placed.gradients, in_pieces=in_pieces,
            )[0]
            for in_pieces in (False, True)
        )  # fmt: skip
    except Exception:  # a network that insists on its own type
        return is_rounding((sizes(rows[0]), sizes(rows[1])), (None, None), allowed)
    found = is_rounding((sizes(rows[0]), sizes(rows[1])), (sizes(whole), sizes(cut)), allowed)
    return found if np.isfinite([whole[0], cut[0]]).all() else None
