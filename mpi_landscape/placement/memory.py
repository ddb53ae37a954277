"""Memory of the device: how many examples a batch can have, and what to say when it runs out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.engine.watching import Footprint
from mpi_landscape.evaluation.precision import Precision
from mpi_landscape.parallel.devices import DeviceMemory
from mpi_landscape.plan.rules import choose_batch_size
from mpi_landscape.wording import amount, one_line

# Tensors of the largest layer's size that are alive at once in a pass: its input, its output, a shortcut, scratch space. Of
# images of 224 x 224 on a CPU a pass took at its peak 1.7 to 2.0 of them for VGG-11 in float32, 2.2 to 3.0 for ResNet-18, 2.3
# for MobileNetV2 and 4.0 for DenseNet-121; in float64, besides the columns of a convolution, 2.1, 1.2, 1.9 and 1.6.
ALIVE = 4
# What a process on a CPU holds for that: freed memory stays with it and falls into pieces between passes over batches of other
# sizes. A whole job of ResNet-18 in float64, batches of 32, held 2.6 GiB besides its vectors, where one pass took 0.73 GiB and
# the numbers above say 1.27 GiB.
KEPT = 2


@dataclass(frozen=True, kw_only=True)
class Batches:
    """What the batches of a rank are.

    Attributes:
        size: Examples in one.
        bytes: Memory that a pass over one takes.
        threads: Of the rank, each with a batch of its own.
    """

    size: int
    bytes: int
    threads: int


def example_bytes(footprint: Footprint, precision: Precision, device: torch.device) -> int:
    """Memory that an example takes in passes.

    On a CPU no kernel convolves float64: the input of a whole batch is written out as a matrix, patch by patch.
    """
    has_no_kernel = device.type == "cpu" and (
        precision.data == torch.float64 or not torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    )
    numbers = ALIVE * footprint.largest + (footprint.columns if has_no_kernel else 0)
    # A softmax and the losses of a network in 16 bits are in 32, and the largest layer of a language model is what they are of.
    return numbers * max(4, precision.data.itemsize) * (KEPT if device.type == "cpu" else 1)


def choose_batch(
    footprint: Footprint,
    num_examples: int,
    asked: int | Literal["auto"],
    precision: Precision,
    device: torch.device,
    memory: DeviceMemory,
    *,
    threads: int | Literal["auto"] = 1,
    available: int = 1,
    decided: int | None = None,
    most: int | None = None,
    given: int | None = None,
) -> Batches:
    """Examples per batch: as asked for, as a file has it, or by the size of the activations and of the device's memory.

    It does not depend on the number of ranks, nor on what is free, as the bits do depend on it. Where not all threads of the
    ranks that share the memory have room for a batch of it, ranks have fewer threads; where not one has, it is refused.

    Args:
        footprint: What a pass holds for an example.
        num_examples: Examples in the largest split.
        asked: The size that was asked for.
        precision: Of the computation.
        device: Where the batches will go through the network.
        memory: Of the device.
        threads: What was asked for.
        available: Threads that this rank may keep busy.
        decided: The size of the file that may be continued; None without one.
        most: Examples in a batch at most, where its size is not asked for or decided; None for any number.
        given: The size in which the data came, taken where none is asked for or decided, as far as it fits.

    Raises:
        LandscapeError: A batch does not fit for every rank.
    """
    per_example = example_bytes(footprint, precision, device)
    if asked != "auto":
        size = asked
    elif decided is not None:
        size = decided
    else:
        largest = footprint.largest * precision.computed.itemsize
        size = given or choose_batch_size(largest, num_examples, on_gpu=device.type == "cuda")
        size = size if most is None else min(size, most)
        while size > 1 and per_example * size > memory.share:
            size //= 2
    taken = per_example * min(size, num_examples)
    least = 1 if threads == "auto" else threads
    if taken * least * memory.users > memory.free:
        raise _too_large(size, taken, per_example, device, memory, least, is_decided=size == decided)
    # The data take the other half.
    room = memory.free // (2 * memory.users * taken)
    return Batches(
        size=size, bytes=taken, threads=max(1, min(available, room)) if threads == "auto" else threads
    )


def _too_large(
    size: int,
    taken: int,
    per_example: int,
    device: torch.device,
    memory: DeviceMemory,
    threads: int,
    *,
    is_decided: bool,
) -> LandscapeError:
    ranks, where = memory.free // (taken * threads), f"on {device}" if device.type == "cuda" else "on a node"
    examples = memory.free // (per_example * threads * memory.users)
    who = f"{memory.users} ranks {where}" if memory.users > 1 else "it"
    with_threads = f" in each of {threads} threads" if threads > 1 else ""
    valid = [
        *([f"{ranks} rank{'s' if ranks > 1 else ''} {where}"] if 0 < ranks < memory.users else []),
        *(["fewer compute.threads"] if threads > 1 else []),
        *(
            [f"--set compute.batch_size={examples}{' in a new file' if is_decided else ''}"]
            if examples
            else []
        ),
    ]
    return LandscapeError(
        f"compute.batch_size is {size}{' in the file' if is_decided else ''}: a pass over a batch takes about "
        f"{amount(taken)}{with_threads} ({amount(per_example)} an example), and {amount(memory.free)} are free for {who}; "
        f"valid is {', or '.join(valid) or 'a device with more memory'}"
    )


def out_of_memory(error: BaseException, where: str, batch_size: int | str) -> LandscapeError:
    """What to tell the user of it."""
    return LandscapeError(
        f"{where}: out of memory ({one_line(error, 120)}); what is done is kept, go on with a smaller "
        f"--set compute.batch_size=N (now {batch_size}) in a new file, with fewer ranks on a node, or fewer compute.threads"
    )
