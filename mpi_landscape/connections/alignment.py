"""The end of a path next to its start: the same function of its inputs, by other parameters. Collective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.alignment.aligning import aligned, symmetries_of
from mpi_landscape.loading.resident import Resident
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.placing import Placed
from mpi_landscape.placement.sharing import share_tensors

# With which a pass is followed, and two networks are compared.
_EXAMPLES = 32
# Of the order in which units are matched.
_SEED = 0


@dataclass(frozen=True, kw_only=True)
class AlignedEnd:
    """An end whose units have changed places.

    Attributes:
        state: Parameters and buffers by name, where and of what type those of the end were.
        facts: For the file: distances before and after, of the parameters that may change places.
    """

    state: Mapping[str, Tensor]
    facts: Mapping[str, float]


def _all_batches(placed: Placed) -> list[Any] | None:
    """All that the network is called on, where it lies in memory: a network may look at its data to choose its way."""
    if not all(isinstance(each, Resident) for each in placed.splits.values()):
        return None
    return [
        batch.data
        for examples in placed.splits.values()
        for piece in examples.pieces(0, examples.num_batches)
        for batch in piece
    ]


def aligned_end(placed: Placed, end: Mapping[str, Tensor], ranks: Ranks, *, where: str) -> AlignedEnd:
    """The end of a path whose start the network is, its units permuted so that it lies near the start; by rank 0 for all.

    Source: Ainsworth, Hayase and Srinivasa 2022, arXiv:2209.04836, algorithm 1.

    Args:
        placed: The problem, at the start.
        end: Parameters and buffers by name.
        ranks: The job's ranks.
        where: For messages.

    Raises:
        AgreedError: It is not known which units may change places, or a loss would.
    """
    problem, examples = placed.problem, next(iter(placed.splits.values()))

    def align() -> tuple[dict[str, Tensor], dict[str, float], str]:
        batch = examples.together(range(min(_EXAMPLES, examples.num_examples)))
        try:
            symmetries = symmetries_of(
                problem.model, problem.loss, batch, others=_all_batches(placed), gradients=placed.gradients
            )
            found = aligned(
                problem.model, end, symmetries, problem.loss, batch, seed=_SEED, gradients=placed.gradients
            )
        except LandscapeError as error:
            raise LandscapeError(f"{where}: {error}") from error
        moved = sum(int((each != each.sort().values).sum()) for each in found.permutations)
        facts = {
            "alignment_distance_before": found.distance_before,
            "alignment_distance_after": found.distance_after,
        }
        words = (
            f"aligned     {moved} of {sum(map(len, found.permutations))} units in {len(symmetries.sets)} sets have changed "
            f"places: the parameters that may are now {found.distance_after:.6g} from the start's, before "
            f"{found.distance_before:.6g}"
        )
        return found.state, facts, words

    made = ranks.on_root(align)
    if made is not None:
        ranks.say(made[2])
    facts = ranks.share(None if made is None else made[1]) or {}
    shared = share_tensors(None if made is None else made[0], ranks)
    state = {name: value.to(end[name].device, end[name].dtype) for name, value in shared.items()}
    return AlignedEnd(state=state, facts=facts)
