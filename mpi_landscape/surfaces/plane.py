"""The plane of a request: around flat vectors, or around tensors that keep their types. Collective."""

from __future__ import annotations

from mpi_landscape.evaluation.precision import precision_of
from mpi_landscape.geometry.kept import KeptPlane
from mpi_landscape.geometry.plane import Plane
from mpi_landscape.parallel.devices import thread_share
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.center import share_center, share_kept_center
from mpi_landscape.placement.ends import buffers_move
from mpi_landscape.placement.kept import share_kept_plane
from mpi_landscape.placement.plane import share_plane
from mpi_landscape.placement.roles import share_roles
from mpi_landscape.surfaces.recomputing import recomputes
from mpi_landscape.surfaces.request import Request


def plane_of(request: Request, ranks: Ranks) -> Plane | KeptPlane:
    """Center and directions on every rank. Collective.

    Raises:
        AgreedError: There is no center, or a direction cannot be made.
    """
    problem, said = request.problem, request.directions
    model, where, given = problem.model, problem.where, problem.ends
    with ranks.together():
        anew = recomputes(request)
    moves = buffers_move(said, model, ranks, where=where, given=given)
    roles = share_roles(problem, said.rules, ranks)
    if not precision_of(request.compute.precision).kept:
        center = share_center(model, ranks, normalization_buffers=moves, roles=roles)
        return share_plane(said, model, center, ranks, where=where, given=given, recomputed=anew)
    kept = share_kept_center(model, ranks, normalization_buffers=moves, roles=roles)
    threads = thread_share(ranks, request.compute.threads)
    return share_kept_plane(said, model, kept, ranks, where=where, given=given, threads=threads)
