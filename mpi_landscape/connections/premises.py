"""What must hold before a path is sought, and what it will be, in lines for people."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch

from mpi_landscape.configuration.sections.training import Phase
from mpi_landscape.connections.batches import Batches
from mpi_landscape.connections.curve import Curve, distance
from mpi_landscape.connections.losses import has_statistics
from mpi_landscape.connections.passes import Passes
from mpi_landscape.connections.request import Request
from mpi_landscape.connections.space import Space
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.inputs import find_inputs
from mpi_landscape.evaluation.lending import kept_as_it_is, restore
from mpi_landscape.loading import nests
from mpi_landscape.loading.results import losses_of
from mpi_landscape.parallel.devices import available_cores, free_memory
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.placing import Placed
from mpi_landscape.training.feed import make_feed
from mpi_landscape.training.memory import activation_bytes, choose_piece_size
from mpi_landscape.training.premises import check_smallest_pieces
from mpi_landscape.training.recipe import Recipe
from mpi_landscape.wording import listed

# As for a training: it depends on the kind of hardware alone, not on what is free, as pieces of another size are another path.
_CPU_BYTES, _GPU_SHARE = 4 * 2**30, 0.5
# Relative: the same operations in another memory.
_SAME = 1e-4
_MOST_NAMED = 3


def batches_of(request: Request, seat: Placed, ranks: Ranks, before: Mapping[str, Any] | None) -> Batches:
    """The data of the steps, with the pieces that an earlier start has decided on.

    Raises:
        LandscapeError: The batch is larger than the data, or batch normalization cannot take its smallest piece.
    """
    settings, problem = request.settings, seat.problem
    dataset, device = problem.splits["train"], seat.device
    inputs = find_inputs(
        problem.loss, problem.model, "train", dataset, device=device, dtype=seat.precision.data
    )
    feed = make_feed(
        "train",
        dataset,
        device=device,
        dtype=inputs.dtype,
        workers=_workers(ranks),
        mode=request.compute.data,
        available=free_memory(device, ranks),
    )
    asked = settings.said("batch_size")
    # A default gives way to a small set.
    if settings.batch_size is not None and isinstance(asked, int) and asked > len(feed):
        raise LandscapeError(
            f"{request.where}: connect.batch_size is {asked}, but the split train has {len(feed)} examples; expected at "
            f"most as many, or all"
        )
    size = len(feed) if asked == "all" else min(asked, len(feed))
    piece = settings.said("piece_size")
    if before is not None:
        piece = int(before["piece_size"])
    elif piece == "auto":
        piece = _piece_size(problem.model, problem.loss, feed, size, device)
    changes = settings.said("augmentation")
    made = Batches(
        feed=feed,
        batch_size=size,
        piece_size=piece or None,
        seed=settings.said("seed"),
        shift=changes.shift,
        flip=changes.flip,
    )
    phase = Phase(epochs=1, optimizer="sgd", batch_size=size, learning_rate=1.0)
    recipe = Recipe(phases=(phase,), piece_size=made.piece_size)
    check_smallest_pieces(problem.model, problem.loss, feed, recipe, prepare=lambda batch: batch)
    return made


def _piece_size(model: Any, loss: Any, feed: Any, largest: int, device: torch.device) -> int:
    """Examples that go through the network at once; 0 for a batch as it is."""
    count = min(8, len(feed))
    batch = next(iter(feed.batches(torch.arange(count), count)))
    budget = _CPU_BYTES
    if device.type == "cuda":
        budget = int(_GPU_SHARE * torch.cuda.get_device_properties(device).total_memory)
    piece = choose_piece_size(largest, activation_bytes(model, loss, batch) / count, budget)
    return 0 if piece >= largest else piece


def _workers(ranks: Ranks) -> int:
    """Processes that read what streams; they change no bit, so every core may take part."""
    cores = len(available_cores())
    # A rank that is bound to some cores has them for itself.
    return cores if cores < (os.cpu_count() or 1) else max(1, cores // ranks.local_size)


def check_called(passes: Passes, curve: Curve) -> None:
    """See that the loss follows parameters that are handed to it, as the network does that is moved in place.

    A loss that has taken hold of a parameter by itself would go on with that of the start.

    Raises:
        LandscapeError: It does not.
    """
    space, model = passes.space, passes.model
    count = min(2, len(passes.batches.feed))
    (batch,) = passes.batches.feed.batches(torch.arange(count), count)
    tensors = space.parameters(curve.point(0.5), 0.5)
    with torch.set_grad_enabled(passes.gradients):
        handed = losses_of(passes.loss_at(tensors, batch)).detach()
        with kept_as_it_is(model):
            restore(model, tensors)
            moved = losses_of(passes.loss(model, nests.fresh(batch))).detach()
    if not torch.allclose(handed.double(), moved.double(), rtol=_SAME, atol=_SAME, equal_nan=True):
        raise LandscapeError(
            "loss: is not the same with parameters that are handed to the network as with those that it holds: it reaches "
            "some of them past the network; valid is a loss that calls the network alone"
        )


def say_plan(
    request: Request,
    seat: Placed,
    space: Space,
    curve: Curve,
    passes: Passes | None,
    batch_norm: str,
    ranks: Ranks,
) -> None:
    """What is connected, and how, from rank 0."""
    length = distance(curve.controls[0], curve.controls[-1])
    say = ranks.say
    say(f"network     {space.size:,} numbers move; the ends are {length:.6g} apart")
    if space.frozen:
        say(f"frozen      {_some(space.frozen)}: not trained, and others at the end: they go straight")
    say(f"data        {seat.held}")
    say(f"path        {_words(request, passes)}")
    if has_statistics(seat):
        meaning = {
            "stored": "those of the nearer end",
            "interpolated": "straight from those of one end to the other's",
            "recomputed": "of a pass over the training data at every point",
        }
        say(
            f"batch norm  {batch_norm}: {meaning[batch_norm]}"
            + (" (compute.batch_norm)" if request.compute.batch_norm != "auto" else "")
        )


def _words(request: Request, passes: Passes | None) -> str:
    settings = request.settings
    if passes is None:
        return "line"
    batches, said = passes.batches, settings.said
    size = "all examples" if said("batch_size") == "all" else f"batches of {batches.batch_size}"
    pieces = len(batches.pieces_of(0))
    cut = f" in {pieces} pieces" if pieces > 1 else ""
    lengths = {
        "bezier": lambda: f"{said('epochs')} epochs of {batches.steps_per_epoch} steps",
        "polygon": lambda: (
            f"{said('bends')} bend{'s' if said('bends') > 1 else ''}, {said('epochs')} epochs of "
            f"{batches.steps_per_epoch} steps"
        ),
        "string": lambda: f"{said('pivots')} pivots, {said('steps')} steps",
        "autoneb": lambda: (
            f"{said('pivots')} to {said('most_pivots')} pivots, {sum(cycle.steps for cycle in said('cycles'))} steps "
            f"in {len(said('cycles'))} cycles"
        ),
    }
    return f"{settings.method}: {lengths[settings.method]()}, {size}{cut}"


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return listed(names[:_MOST_NAMED]) + more
