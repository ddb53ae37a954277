"""From a request to a finished spectrum file, or to the plan alone. Collective."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from mpi_landscape.curvatures.contents import SpectrumFile, contents_of, identity_of
from mpi_landscape.curvatures.planning import (
    check_memory,
    check_numbers,
    check_time_limit,
    describe,
    first_batch,
    memory_for_graphs,
    most_per_batch,
    seconds_per_product,
    tried,
)
from mpi_landscape.curvatures.request import Request
from mpi_landscape.curvatures.searching import Search, expected_products
from mpi_landscape.curvatures.sharing import Shared, read
from mpi_landscape.evaluation.curvature.checking import check_twice_differentiable
from mpi_landscape.evaluation.curvature.products import Products
from mpi_landscape.evaluation.curvature.space import Space, space_of
from mpi_landscape.evaluation.curvature.starts import gaussian
from mpi_landscape.evaluation.lending import restore, tensors_of
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.stopping import Stopping
from mpi_landscape.placement.center import Center, flat_state
from mpi_landscape.placement.placing import Placed, placed
from mpi_landscape.placement.plane import share_plane
from mpi_landscape.placement.products import agree_on
from mpi_landscape.placement.roles import share_roles
from mpi_landscape.placement.sharing import share_tensors
from mpi_landscape.plan.decisions import Decisions
from mpi_landscape.storage.identity import fingerprint
from mpi_landscape.storage.item_file import decided
from mpi_landscape.storage.spectrum.creation import size_of
from mpi_landscape.storage.spectrum.reader import read_attributes, read_spectrum
from mpi_landscape.storage.spectrum.schema import Shape
from mpi_landscape.storage.spectrum.summary import spectrum_lines, summarize_spectrum
from mpi_landscape.wording import listed
from mpi_landscape.work.job import Job
from mpi_landscape.work.progress import Progress
from mpi_landscape.work.running import Ending, complete


@dataclass(frozen=True, kw_only=True)
class Where:
    """The point and its space, the same on every rank.

    Attributes:
        space: Which parameters count.
        center: Fingerprint of the network's parameters in float32, as that of a surface's center.
    """

    space: Space
    center: str


def compute(
    request: Request,
    ranks: Ranks,
    path: Path | None,
    *,
    writer: str,
    overwrite: bool,
    stopping: Stopping,
    attributes: Mapping[str, Any],
) -> Ending:
    """Find both ends of the spectrum, and the density of the rest. Collective.

    Args:
        request: What to compute.
        ranks: Who computes.
        path: The file, whose lock the caller holds on rank 0; None to say the plan only.
        writer: `auto`, `parallel` or `root`.
        overwrite: Whether a file of another run may be replaced.
        stopping: Asked between batches.
        attributes: More for the file to say of itself.

    Returns:
        Why it stopped, if it did, and what the file holds now.

    Raises:
        AgreedError: A premise does not hold, or the file belongs to another run or cannot be written.
    """
    with stopping.at_once():
        where = _where(request, ranks)
        size = where.space.size
        with ranks.together():
            check_numbers(request, size)
    before = (
        ranks.share(ranks.on_root(lambda: decided(None if overwrite else path, read_attributes)))
        or Decisions()
    )
    (dataset,) = request.problem.splits.values()
    most = most_per_batch(len(dataset))  # type: ignore[arg-type]
    with ExitStack() as resources:
        seat = resources.enter_context(
            placed(request.problem, ranks, request.compute, before, most_per_batch=most)
        )
        with ranks.together():
            check_memory(request, seat, size)
            _check_second_derivatives(request, seat, where.space, ranks)
        graphs = memory_for_graphs(request, seat, size)
        products = resources.enter_context(_products(request, seat, where.space, graphs))
        shape = request.shape(size)
        with stopping.at_once():
            shared, seconds = _tried(request, seat, products, ranks)
            engine = products.way.words() if products.way is not None else ""
        own = identity_of(request, seat, where.space, shape, center=where.center, engine=engine)
        contents = contents_of(
            request, seat, where.space, shape, own, {**attributes, "ranks": str(ranks.size)}
        )
        for line in describe(
            request, seat, where.space, shape,
            graphs=graphs, seconds=seconds, file_bytes=size_of(contents), ranks=ranks,
        ):  # fmt: skip
            ranks.say(line)
        if path is None:
            return Ending()
        with ranks.together():
            check_time_limit(stopping.limit, request, shape, seconds)
        kept = SpectrumFile(path, contents if ranks.is_root else None, identity=own, overwrite=overwrite)
        return _complete(request, seat, shared, shape, kept, writer=writer, stopping=stopping)


def _complete(
    request: Request,
    seat: Placed,
    shared: Shared,
    shape: Shape,
    kept: SpectrumFile,
    *,
    writer: str,
    stopping: Stopping,
) -> Ending:
    ranks, products = shared.ranks, shared.products

    examples = seat.splits[request.said.split]

    def noise() -> float:
        """By the first batch, on rank 0: so it is the same for any number of ranks."""
        found = ranks.on_root(lambda: products.noise(partial(read, examples, 0, 1)))
        return ranks.share(math.nan if found is None else found)

    total = expected_products(request, shape)
    with Progress(total, units="products", points="products", shown=ranks.is_root) as progress:
        search = Search(
            request=request,
            shape=shape,
            shared=shared,
            scale=_scale(request, seat, products.space),
            noise=noise,
            dtype=seat.precision.data,
            exponent=shared.exponent,
            progress=progress,
        )
        shared.told = search.told
        job = Job(
            num_items=shape.num_items,
            row_size=1,
            evaluate=search.row,
            account=search.account,
            units="parts",
            points="parts",
            is_shown=False,
            together=True,
        )
        return complete(job, kept, ranks, writer=writer, stopping=stopping)


def _products(request: Request, seat: Placed, space: Space, graphs: int) -> Products:
    return Products(
        seat.problem.model,
        seat.problem.loss,
        space,
        operator=request.said.operator,
        dtype=seat.precision.data,
        threads=seat.threads,
        device=seat.device,
        memory=graphs,
        engine=request.said.engine,
    )


def _check_second_derivatives(request: Request, seat: Placed, space: Space, ranks: Ranks) -> None:
    """Refuse what cannot be differentiated twice, and say what is smooth in pieces only.

    Raises:
        LandscapeError: So it is.
    """
    batch = first_batch(seat.splits[request.said.split])
    where = f"{request.problem.where}: hessian"
    with seat.precision.computing():
        pieces = check_twice_differentiable(
            seat.problem.model, seat.problem.loss, batch, space, operator=request.said.operator, where=where
        )
    if pieces:
        ranks.say(f"smooth      in pieces, {listed(pieces)}: the curvature is that within a piece")


def _where(request: Request, ranks: Ranks) -> Where:
    """Rank 0's parameters and buffers on every rank, bit for bit, and which of them count. Collective.

    Raises:
        AgreedError: None counts, or a direction that says which cannot be made.
    """
    problem, said = request.problem, request.said
    model = problem.model
    roles = share_roles(problem, request.directions.rules, ranks)
    with ranks.together():
        layout = layout_of(model, normalization_buffers=False, roles=roles)
    restore(model, share_tensors(tensors_of(model) if ranks.is_root else None, ranks, copied=False))
    vector = flat_state(model, layout)
    directions: tuple[Tensor, ...] = ()
    if said.parameters == "moving":
        center = Center(layout=layout, vector=vector)
        plane = share_plane(request.directions, model, center, ranks, where=problem.where)
        directions = tuple(plane.directions.values())
    with ranks.together():
        space = space_of(
            layout,
            parameters=said.parameters,
            directions=directions,
            where=f"{problem.where}: hessian.parameters",
        )
    return Where(space=space, center=fingerprint(vector.numpy()))


def _tried(request: Request, seat: Placed, products: Products, ranks: Ranks) -> tuple[Shared, float]:
    """Products over all ranks, and how long one is expected to take. Collective.

    Raises:
        AgreedError: The network or the loss raised.
    """
    examples = seat.splits[request.said.split]
    start = gaussian(products.size, request.said.seed, "trial", dtype=seat.precision.data, device=seat.device)
    start /= start.norm()

    batch = first_batch(examples)
    with ranks.together():
        # The same batch everywhere, so that all choose alike.
        way = products.choose(batch)
    agree_on(way, ranks)

    def try_one() -> tuple[float, int]:
        return tried(products, examples, start, seat)

    seconds, exponent = ranks.share(ranks.on_root(try_one)) or (0.0, 0)
    shared = Shared(products=products, placed=seat, examples=examples, ranks=ranks, exponent=exponent)
    return shared, seconds_per_product(seconds, examples, ranks)


def _scale(request: Request, seat: Placed, space: Space) -> Tensor | None:
    """The unit of each number in filter-normalized coordinates, where they are asked for."""
    if not request.said.normalized:
        return None
    return space.scale(space.vector(tensors_of(seat.problem.model), seat.precision.data)).to(seat.device)


def said_of_the_spectrum(path: Path) -> list[str]:
    """What a finished file shows, in lines for people, but for its name and what it is of."""
    return spectrum_lines(summarize_spectrum(read_spectrum(path)))[2:]
