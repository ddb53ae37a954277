"""Where the data of a job are held: in the memory of the device or of the node, or streamed to it. Collective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading import nests
from mpi_landscape.loading.digest import Digest
from mpi_landscape.loading.form import Form, find_form
from mpi_landscape.loading.resident import Examples, make_resident
from mpi_landscape.loading.streamed import MOST_BYTES, check_held, make_streamed
from mpi_landscape.parallel.devices import free_memory
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.shared_memory import Node

# Examples of its own data set that every rank compares with those of the others.
_COMPARED = 128


@dataclass(frozen=True, kw_only=True)
class Room:
    """What decides where data are held.

    Attributes:
        free: Bytes that are free, of the device or of the node; None where nobody tells.
        copies: How often what is resident is held in that memory.
        ranks: How many ranks use that memory.
    """

    free: int | None
    copies: int = 1
    ranks: int = 1


def choose(request: str, sizes: Mapping[str, int], room: Room) -> dict[str, str]:
    """Where each split is held, and why.

    Args:
        request: `auto`, `resident` or `streamed`.
        sizes: Bytes by split.
        room: What is free.

    Returns:
        By split, a text that begins with `resident` or `streamed`. With `auto`, splits are resident in their order as
        long as all together take less than half of what is free: the network and its activations take the rest.

    Raises:
        LandscapeError: They shall be resident, but do not fit.
    """
    if request == "streamed":
        return dict.fromkeys(sizes, "streamed (compute.data)")
    taken, chosen = 0, {}
    for split, size in sizes.items():
        taken += size * room.copies
        if request == "resident":
            if room.free is not None and taken > room.free:
                raise LandscapeError(
                    f"compute.data: resident was asked for, but split {split!r} brings the data to {_bytes(taken)}, and "
                    f"{_bytes(room.free)} are free; use auto or streamed"
                )
            chosen[split] = "resident (compute.data)"
        elif room.free is None:
            chosen[split] = "resident (free memory unknown)"
        elif taken < room.free / 2:
            chosen[split] = f"resident ({_bytes(room.free)} free)"
        else:
            chosen[split] = f"streamed ({_bytes(taken)} are half or more of {_bytes(room.free)} free)"
            taken -= size * room.copies
    return chosen


def hold(
    splits: Mapping[str, Dataset[Any]],
    ranks: Ranks,
    node: Node,
    *,
    request: str,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
    readers: int,
    orders: Mapping[str, NDArray[np.int64]] | None = None,
) -> tuple[dict[str, Examples], str, int]:
    """Hold every split of the data where it belongs. Collective.

    Args:
        splits: Data sets by name.
        ranks: The job.
        node: The ranks of this node, which hold the data together.
        request: `auto`, `resident` or `streamed`.
        batch_size: Examples per batch.
        device: Where the batches shall lie.
        dtype: What floating-point tensors become.
        readers: Threads of this rank that may read.
        orders: By split, in which order examples are put into batches.

    Returns:
        The splits, in words how they are held, and this rank's share of the bytes.

    Raises:
        AgreedError: They cannot be held, cannot be read, or differ from rank to rank.
    """
    orders = orders or {}
    with ranks.together():
        forms = {
            split: find_form(
                split, dataset, device=device, dtype=dtype, first=_first(orders.get(split)), team=node
            )
            for split, dataset in splits.items()
        }
    sizes = {split: form.example_bytes * form.num_examples for split, form in forms.items()}
    sharing = _sharing(ranks, node, forms, sum(sizes.values()), request)
    room = _room(device, ranks, node, sharing)
    with ranks.together():
        own = choose(request, sizes, room)
    # The same on every rank, as it decides the plan: streamed where one of them has too little memory.
    everywhere = ranks.gather(own)
    chosen = {
        split: next((each[split] for each in everywhere if each[split].startswith("streamed")), own[split])
        for split in splits
    }
    each_rank = None if room.free is None else room.free // room.ranks
    most = MOST_BYTES if each_rank is None else min(MOST_BYTES, each_rank // 8)
    streamed = [split for split in splits if chosen[split].startswith("streamed")]
    with ranks.together():
        check_held([forms[split] for split in streamed], batch_size, each_rank)

    def make(split: str) -> Examples:
        build = make_streamed if split in streamed else make_resident
        bound = {"most_bytes": most} if split in streamed else {}
        return build(
            split,
            splits[split],
            batch_size=batch_size,
            device=device,
            dtype=dtype,
            order=orders.get(split),
            team=node,
            readers=readers,
            form=forms[split],
            **bound,
        )

    with ranks.together():
        held = {split: make(split) for split in splits}
    with ranks.together():
        _check_same(ranks, held, forms)
    where = "on every GPU" if device.type == "cuda" else "once per node" if sharing else "in every rank"
    words = [f"{split} {_words(forms[split], sizes[split], where, chosen[split])}" for split in splits]
    kept = sum(size for split, size in sizes.items() if split not in streamed)
    # Of a streamed split, one super-batch is in use and the next is being read.
    each = kept // (ranks.local_size if sharing and device.type == "cpu" else 1) + 2 * most * bool(streamed)
    return held, "; ".join(words), each


def _first(order: NDArray[np.int64] | None) -> int:
    return 0 if order is None or not len(order) else int(order[0])


def _sharing(ranks: Ranks, node: Node, forms: Mapping[str, Form], num_bytes: int, request: str) -> bool:
    """Whether the ranks of a node hold what is resident together; says so where they could, but have no room."""
    if node.size == 1:
        return True
    if any(form.kind == "loose" for form in forms.values()):
        return False
    if node.has_room(num_bytes):
        return True
    if request != "streamed":
        ranks.say("warning: too little shared memory for the data (df /dev/shm); every rank keeps its own")
    return False


def _room(device: torch.device, ranks: Ranks, node: Node, sharing: bool) -> Room:
    free = free_memory(device, ranks)
    if device.type == "cuda":
        found = str(getattr(torch.cuda.get_device_properties(device), "uuid", device.index))
        users = node.gather(found).count(found)
        return Room(free=free, copies=users, ranks=users)
    # What the ranks of a node share counts once, so that their number does not decide.
    return Room(
        free=None if free is None else free * ranks.local_size,
        copies=1 if sharing else node.size,
        ranks=node.size,
    )


def _check_same(ranks: Ranks, held: Mapping[str, Examples], forms: Mapping[str, Form]) -> None:
    """Ranks that see other data would fill one picture with two surfaces.

    The digests tell nodes apart. The ranks of a node have read one data set together, so each also compares some examples
    of its own, or all where they are in memory.

    Raises:
        LandscapeError: They do.
    """
    if ranks.size == 1:
        return
    own = {split: (held[split].digest, _own_digest(form)) for split, form in forms.items()}
    digests = ranks.gather(own)
    for rank, other in enumerate(digests):
        for split, digest in digests[0].items():
            if other.get(split) != digest:
                raise LandscapeError(
                    f"data: split {split!r} holds other examples on rank {rank} than on rank 0; "
                    f"a random choice of examples needs a fixed seed"
                )


def _own_digest(form: Form) -> str:
    digest = Digest()
    if form.kind == "stored":
        digest.update(form.rows)
    else:
        for index in nests.evenly_spaced(form.num_examples, _COMPARED):
            digest.update(form.read([index]))
    return digest.text()


def _words(form: Form, size: int, where: str, why: str) -> str:
    kind = max((leaf for _, leaf in nests.tensors(form.template)), key=lambda t: t[:1].nbytes, default=None)
    kept = "" if kind is None else f" as {str(kind.dtype).removeprefix('torch.')}"
    placement, _, reason = why.partition(" ")
    held = f" {where}" if placement == "resident" else ""
    return f"{placement}, {_bytes(size)}{kept}{held} {reason}"


def _bytes(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            break
        number /= 1000
    return f"{number:.3g} {unit}"
