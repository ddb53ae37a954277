"""What a spectrum takes: memory and time, and what is refused before the work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing

import torch
from torch import Tensor

from mpi_landscape.curvatures.request import Request
from mpi_landscape.curvatures.searching import expected_ends, expected_products
from mpi_landscape.curvatures.sharing import own_batches, read
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.curvature.pairs import most_vectors
from mpi_landscape.evaluation.curvature.products import Products
from mpi_landscape.evaluation.curvature.space import Space
from mpi_landscape.loading.batches import Batch, Examples
from mpi_landscape.parallel.fixed_point import exponent_of
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.placing import Placed
from mpi_landscape.storage.spectrum.schema import Shape
from mpi_landscape.wording import amount, duration, volume

# Vectors of a run besides its basis: those of a step, the sums of a product over ranks.
BESIDES = 9
# A basis of fewer vectors cannot begin anew.
_FEWEST_STEPS = 8
# Of what is free, for graphs of batches: as much stays for passes, and for other jobs of the machine.
_SHARE_FOR_GRAPHS = 2
# A batch is not made smaller than this, and not of fewer than these many batches, where its size is not asked for: ranks share
# out batches, and small ones cost more.
_LEAST_EXAMPLES, _ENOUGH_BATCHES = 64, 8


def most_per_batch(num_examples: int) -> int:
    """Examples of a batch at most, where nothing is said: so many that there are batches for several ranks.

    It follows from the size of the data alone, as bits depend on it.

    Example:
        >>> most_per_batch(50_000), most_per_batch(1442), most_per_batch(100)
        (6250, 181, 64)
    """
    return max(_LEAST_EXAMPLES, -(-num_examples // _ENOUGH_BATCHES))


def check_numbers(request: Request, size: int) -> None:
    """Refuse more eigenvalues than there are.

    Raises:
        LandscapeError: So it is, or nothing is asked for.
    """
    wanted, where = request.num_largest + request.num_smallest, f"{request.problem.where}: hessian"
    if not wanted and not request.num_probes:
        raise LandscapeError(f"{where}: largest, smallest and probes are 0; nothing would be found")
    if wanted > size:
        raise LandscapeError(
            f"{where}: largest is {request.num_largest} and smallest is {request.num_smallest}, of {size} numbers that count; "
            f"valid are at most {size} together, or other hessian.parameters"
        )


def num_vectors(request: Request) -> int:
    """Vectors of n numbers that a rank holds: a basis, those of a step, and those that are kept."""
    wanted = request.num_largest + request.num_smallest
    basis = 0 if not wanted else request.said.most_steps
    if wanted and not request.is_extremes:
        basis = most_vectors(request.num_largest, request.num_smallest, request.said.most_steps)
    probes = request.said.steps if request.num_probes else 0
    return max(basis, probes) + BESIDES + len(request.kept())


def vector_bytes(request: Request, placed: Placed, size: int) -> int:
    """What they take."""
    return num_vectors(request) * size * placed.precision.data.itemsize


def check_memory(request: Request, placed: Placed, size: int) -> None:
    """Refuse a search whose vectors do not fit.

    Raises:
        LandscapeError: So it is.
    """
    needed, free = vector_bytes(request, placed, size), placed.free_bytes - placed.data_bytes
    if needed <= free:
        return
    said = request.said
    most = int(free / needed * num_vectors(request)) - BESIDES - len(request.kept())
    wanted = request.num_largest + request.num_smallest
    valid = []
    if most >= (
        _FEWEST_STEPS
        if request.is_extremes
        else most_vectors(request.num_largest, request.num_smallest, _FEWEST_STEPS)
    ):
        names = [name for name in ("most_steps", "steps") if getattr(said, name) > most]
        valid.append(f"{' and '.join(f'hessian.{name}' for name in names)} of at most {most}")
    valid += ["fewer hessian.largest and smallest"] * (wanted > 2)
    valid += ["fewer hessian.parameters (moving, or patterns)", "fewer ranks on a node"]
    raise LandscapeError(
        f"{request.problem.where}: hessian: takes {num_vectors(request)} vectors of {size:,} numbers in every rank, "
        f"{amount(needed)}, and {amount(max(0, free))} are free for a rank; valid are {', '.join(valid)}"
    )


def memory_for_graphs(request: Request, placed: Placed, size: int) -> int:
    """Bytes of graphs that a rank keeps between products: as asked, otherwise half of what is left."""
    if request.said.memory != "auto":
        return int(request.said.memory * 2**30)
    taken = placed.data_bytes + placed.activation_bytes + vector_bytes(request, placed, size)
    return max(0, placed.free_bytes - taken) // _SHARE_FOR_GRAPHS


def first_batch(examples: Examples) -> Batch:
    """The first batch of a split."""
    with closing(examples.pieces(0, 1)) as pieces:
        batch: Batch = next(pieces)[0]
    return batch


def tried(products: Products, examples: Examples, start: Tensor, placed: Placed) -> tuple[float, int]:
    """Seconds of a batch once its graph is there, and the exponent of the numbers of its product; by the first batch alone.

    Raises:
        LandscapeError: The network or the loss raised.
    """
    seconds, largest = 0.0, 0.0
    with placed.precision.computing():
        for _ in range(2):
            begun = time.perf_counter()
            for term in products.terms(start[None], lambda: read(examples, 0, 1)):
                largest = float(term.abs().max()) if term.numel() else 0.0
            if placed.on_gpu:
                torch.cuda.synchronize(placed.device)
            seconds = time.perf_counter() - begun
    # One more bit for batches whose examples are more curved.
    return seconds, exponent_of(largest) + 3 if largest < torch.inf else 0


def seconds_per_product(seconds: float, examples: Examples, ranks: Ranks) -> float:
    """Of a product that all ranks make, from that of a batch."""
    most = max(
        len(own_batches(examples.num_batches, Ranks(rank=rank, size=ranks.size)))
        for rank in range(ranks.size)
    )
    return seconds * most


def describe(
    request: Request,
    placed: Placed,
    space: Space,
    shape: Shape,
    *,
    graphs: int,
    seconds: float,
    file_bytes: int,
    ranks: Ranks,
) -> Sequence[str]:
    """What will be done, in lines for people."""
    examples, said = placed.splits[request.said.split], request.said
    products = expected_products(request, shape)
    ends = f"{request.num_largest} largest, {request.num_smallest} smallest eigenvalues"
    density = f"; {shape.num_probes} probes of {shape.num_steps} steps" if shape.num_probes else ""
    twice = "; both in filter-normalized coordinates, too" if len(shape.parts) > 1 else ""
    vectors = num_vectors(request)
    lines = [
        f"network     {space.size:,} numbers count in {len(space.names)} tensors ({request.parameters}); {placed.precision.name}",
        f"data        {placed.held}; {examples.num_batches} batches of {examples.batch_size}",
        f"curvature   {said.operator.replace('_', '-')}: {ends}, residuals of {100 * said.tolerance:g} %{density}{twice}",
        f"memory      {vectors} vectors in every rank, {amount(vector_bytes(request, placed, space.size))}; graphs of batches up "
        f"to {amount(graphs)} are kept",
        f"file        {volume(file_bytes)}",
        f"expected    {duration(products * seconds)} for about {products} products with all data, each "
        f"{duration(seconds).removeprefix('about ')} on {ranks.size} rank{'s' if ranks.size > 1 else ''}",
    ]
    if ranks.size > examples.num_batches:
        lines.append(
            f"warning: {ranks.size} ranks share {examples.num_batches} batches, so some have nothing to do; a smaller "
            f"compute.batch_size makes more of them"
        )
    return lines


def check_time_limit(limit: float | None, request: Request, shape: Shape, seconds: float) -> None:
    """Refuse a job that would stop before its first part every time that it is run.

    Raises:
        LandscapeError: So it is.
    """
    longest = max(expected_ends(request), shape.num_steps + 1) * seconds
    if limit is not None and limit < longest:
        raise LandscapeError(
            f"--time-limit: {limit:g} s is shorter than a part of the spectrum, which is expected to take {duration(longest)}, "
            f"so that nothing would ever be done; valid is a longer limit"
        )
