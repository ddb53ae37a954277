"""Memory of the device: how many examples a batch can have, and what to say when it runs out."""

from __future__ import annotations

import torch

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.precision import Precision
from mpi_landscape.plan.rules import choose_batch_size
from mpi_landscape.wording import one_line

# Tensors of the largest layer's size that are alive at once in a pass: its input, its output, a shortcut, scratch space.
ALIVE = 4


def choose_batch(
    largest: int,
    num_examples: int,
    size: int | str,
    precision: Precision,
    device: torch.device,
    free: int | None,
    *,
    most: int | None = None,
) -> tuple[int, int]:
    """Examples per batch: as asked for, or by the size of the activations; halved while memory does not suffice.

    Args:
        largest: Numbers per example in the largest tensor that a layer gives.
        num_examples: Examples in the largest split.
        size: What was asked for; "auto" for nothing.
        precision: Of the computation.
        device: Where the batches will go through the network.
        free: Bytes that are free there for this rank; None where nobody tells.
        most: Examples in a batch at most, where its size is not asked for; None for any number.

    Returns:
        The batch size, and the bytes of one batch's activations.

    Raises:
        LandscapeError: A batch of the size asked for, or of one example, does not fit.
    """
    per_example = largest * precision.data.itemsize * ALIVE
    if isinstance(size, int):
        taken = per_example * min(size, num_examples)
        if free is not None and taken > free:
            raise LandscapeError(
                f"compute.batch_size is {size}: the activations of a batch would take "
                f"{taken / 2**30:.3g} GiB, {free / 2**30:.3g} GiB are free on {device}; "
                f"valid is at most {max(1, free // per_example)}, or auto"
            )
        return size, taken
    size = choose_batch_size(
        largest * precision.computed.itemsize, num_examples, on_gpu=device.type == "cuda"
    )
    if most is not None:
        size = min(size, most)
    while free is not None and per_example * size > free / 2:
        if size == 1:
            raise LandscapeError(
                f"compute.device: the activations of one example take {per_example / 2**30:.3g} GiB, and {free / 2**30:.3g} GiB "
                f"are free on {device}; start fewer ranks on a node, or take another device"
            )
        size //= 2
    return size, per_example * size


def out_of_memory(error: BaseException, where: str, batch_size: int | str) -> LandscapeError:
    """What to tell the user of it."""
    return LandscapeError(
        f"{where}: out of memory ({one_line(error, 120)}); what is done is kept, go on with a smaller "
        f"--set compute.batch_size=N (now {batch_size}) in a new file, with fewer ranks on a node, or fewer compute.threads"
    )
