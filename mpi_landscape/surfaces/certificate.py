"""The certificate: what shows a reader of the file that its numbers are right. Collective."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing

import numpy as np
import torch
from torch import Tensor

from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.evaluation.plain import check_plain, plain_sums
from mpi_landscape.evaluation.precision import Precision
from mpi_landscape.evaluation.sums import NUM_SUMS, add_in_order
from mpi_landscape.geometry.directions import cosine
from mpi_landscape.geometry.layout import Layout
from mpi_landscape.geometry.normalization import norm_ratios
from mpi_landscape.loading.resident import Examples
from mpi_landscape.parallel.broadcast import sum_over_ranks
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.plan.tiles import shard_bounds
from mpi_landscape.problem.build import Problem


def certify(
    problem: Problem,
    ranks: Ranks,
    evaluator: Evaluator,
    residents: Mapping[str, Examples],
    device: torch.device,
    dtype: torch.dtype,
    precision: Precision,
) -> tuple[dict[str, float], float]:
    """The loss at the center by the engine and by the plain network, each rank taking its share of the batches.

    Args:
        problem: The network at the center, and the loss.
        ranks: The job's ranks.
        evaluator: Put to the center.
        residents: The data by split.
        device: Where both compute.
        dtype: Of the data and of the plain network.
        precision: In which the engine computes; where it has fewer bits, the two may differ.

    Returns:
        `certificate_<split>_loss` and `certificate_<split>_loss_plain`, nats per example; and the seconds that one
        rank needs for a point of the grid.

    Raises:
        AgreedError: The two differ by more than rounding.
    """
    facts: dict[str, float] = {}
    seconds = 0.0
    evaluator.move()
    for split, resident in residents.items():
        first, stop = shard_bounds(resident.num_batches, ranks.size, ranks.rank)
        rows = np.zeros((2, resident.num_batches, NUM_SUMS))
        with closing(resident.pieces(first, stop)) as pieces:
            for share in pieces:
                start = time.perf_counter()
                with precision.computing():
                    rows[0, first : first + len(share)] = evaluator.batch_sums(share)
                seconds += time.perf_counter() - start
                rows[1, first : first + len(share)] = plain_sums(
                    problem.model, problem.loss, share, device=device, dtype=dtype
                )
                first += len(share)
        engine, plain = (
            add_in_order(part)[0] / resident.num_examples for part in sum_over_ranks(ranks, rows)
        )
        # The sums are the same on every rank, and so is a refusal.
        if not precision.approximate:
            with ranks.together():
                check_plain(split, float(engine), float(plain))
        facts[f"certificate_{split}_loss"] = float(engine)
        facts[f"certificate_{split}_loss_plain"] = float(plain)
        if not np.isfinite(engine):
            ranks.say(f"warning: the {split} loss at the center is {engine}; the surface may mean little")
    # One pass was shared by all ranks, so a whole point takes one rank as long as all shares together.
    return facts, float(sum(ranks.gather(seconds)))


def certify_directions(layout: Layout, center: Tensor, directions: Mapping[str, Tensor]) -> dict[str, float]:
    """Least and greatest ratio of a moved filter's norm to the center's, and the cosine between the directions.

    Args:
        layout: Of the flat vectors.
        center: (n,) float32.
        directions: (n,) float32 each, by name.
    """
    facts: dict[str, float] = {}
    vectors = list(directions.values())
    for name, vector in directions.items():
        ratios = norm_ratios(vector, center, layout)
        moved = ratios[np.isfinite(ratios) & (ratios > 0)]
        facts[f"certificate_{name}_norm_ratio_min"] = float(moved.min()) if moved.size else np.nan
        facts[f"certificate_{name}_norm_ratio_max"] = float(moved.max()) if moved.size else np.nan
    if len(vectors) == 2:
        facts["certificate_cosine"] = cosine(*vectors)
    return facts
