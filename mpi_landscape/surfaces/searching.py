"""Eigenvalues at every point of a surface: what is refused before the work, what it takes, and what the file says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.computed import Computing, Rereading
from mpi_landscape.evaluation.curvature.checking import check_twice_differentiable
from mpi_landscape.evaluation.curvature.extremes_of_points import BESIDES, ExtremesOfPoints, Search
from mpi_landscape.evaluation.curvature.space import Space, space_of
from mpi_landscape.evaluation.probe import Setting
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.placing import Placed
from mpi_landscape.placement.products import agree_on
from mpi_landscape.wording import amount, listed

# Of what is free, for graphs of batches: as much stays for passes, and for other jobs of the machine.
_SHARE_FOR_GRAPHS = 2


def check_search(setting: Setting, placed: Placed, search: Search) -> list[str]:
    """Refuse a search that cannot be made, on one batch and before anything is measured.

    Returns:
        What is to be said of its second derivatives, in lines for people.

    Raises:
        LandscapeError: No parameter counts, second derivatives do not exist, or memory does not suffice.
    """
    kinks: dict[str, None] = {}
    space = space_in(setting, search)
    needed, free = vector_bytes(space, placed, search), placed.free_bytes - placed.data_bytes
    if needed > free:
        fewer = int(free / needed * (search.most_steps + BESIDES)) - BESIDES
        less = f"hessian.most_steps of at most {fewer}, " if fewer >= 8 else ""
        raise LandscapeError(
            f"hessian: takes {search.most_steps} + {BESIDES} vectors of {space.size:,} numbers, {amount(needed)}, and "
            f"{amount(max(0, free))} are free for a rank; valid are {less}fewer hessian.parameters (moving, or patterns), or "
            f"fewer ranks on a node"
        )

    for examples in placed.splits.values():
        with closing(examples.pieces(0, 1)) as pieces:
            found = check_twice_differentiable(
                setting.model, setting.loss, next(pieces)[0], space, operator=search.operator
            )
        kinks |= dict.fromkeys(found)
    return (
        [f"pieces      {listed(kinks)}: smooth in pieces, and curvature is that within one"] if kinks else []
    )


def space_in(setting: Setting, search: Search) -> Space:
    """The parameters that are varied.

    Raises:
        LandscapeError: There are none.
    """
    return space_of(setting.layout, parameters=search.parameters, directions=setting.directions)


def vector_bytes(space: Space, placed: Placed, search: Search) -> int:
    """What the vectors of a search take: its basis, and those of a step."""
    return (search.most_steps + BESIDES) * space.size * placed.precision.data.itemsize


def memory_for_graphs(space: Space, placed: Placed, search: Search) -> int:
    """Bytes of graphs that a rank keeps between products at a point: as asked, otherwise half of what is left."""
    if search.memory is not None:
        return search.memory
    left = (
        placed.free_bytes - placed.data_bytes - placed.activation_bytes - vector_bytes(space, placed, search)
    )
    return max(0, left) // _SHARE_FOR_GRAPHS


def describe_search(setting: Setting, placed: Placed, search: Search) -> list[str]:
    """What is found at every point and what it takes, in lines for people."""
    space = space_in(setting, search)
    which = search.parameters if isinstance(search.parameters, str) else listed(search.parameters)
    found = "λmax" if search.ends == "max" else "λmax and λmin"
    graphs = memory_for_graphs(space, placed, search)
    return [
        f"curvature   {found} of the {search.operator.replace('_', '-')} by {space.size:,} numbers ({which}), residuals of "
        f"{100 * search.tolerance:g} %, starts {search.starts}",
        f"            {search.most_steps} + {BESIDES} vectors of a rank: {amount(vector_bytes(space, placed, search))}; graphs "
        f"of up to {amount(graphs)} are kept at a point",
    ]


def way_of(further: Sequence[Computing | Rereading], placed: Placed, ranks: Ranks) -> str:
    """How products of a search are computed, in words, decided on the first batch, the same on every rank. Collective.

    Raises:
        AgreedError: The network or the loss raised, or the ranks would compute in several ways.
    """
    with ranks.together():
        (ends,) = (each for each in further if isinstance(each, ExtremesOfPoints))
        (examples,) = placed.splits.values()
        with closing(examples.pieces(0, 1)) as pieces:
            way = ends.choose(next(pieces)[0])
    agree_on(way, ranks)
    return way.words()


def attributes_of(setting: Setting, search: Search, way: str) -> Mapping[str, str | float | int]:
    """What a file says of the search, whose products are computed in this way."""
    space = space_in(setting, search)
    which = search.parameters if isinstance(search.parameters, str) else ", ".join(search.parameters)
    return {
        "hessian_operator": search.operator,
        "hessian_parameters": which,
        "hessian_num_parameters": space.size,
        "hessian_tolerance": search.tolerance,
        "hessian_most_steps": search.most_steps,
        "hessian_starts": search.starts,
        "hessian_seed": search.seed,
        "hessian_engine": way,
    }
