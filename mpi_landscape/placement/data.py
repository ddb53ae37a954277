"""Where the data of a job are held: in the memory of the device or of the node, or streamed to it. Collective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Examples
from mpi_landscape.loading.form import Form, find_form
from mpi_landscape.loading.resident import make_resident
from mpi_landscape.loading.streamed import MOST_BYTES, check_held, make_streamed
from mpi_landscape.parallel.devices import free_memory
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.parallel.shared_memory import Node
from mpi_landscape.placement.holding import Holding, Memory, choose, size_text

# Examples of its own data set that every rank compares with those of the others.
_COMPARED = 128


@dataclass(frozen=True, kw_only=True)
class Held:
    """The data of a job where they are held.

    Attributes:
        splits: Each split by its name.
        text: How each is held, in words, with the type of the numbers and where they lie.
        bytes: This rank's share of the memory.
    """

    splits: Mapping[str, Examples]
    text: str
    bytes: int


def hold(
    splits: Mapping[str, Dataset[Any]],
    ranks: Ranks,
    node: Node,
    *,
    request: str,
    batch_size: int,
    device: torch.device,
    dtypes: Mapping[str, torch.dtype | None],
    readers: int,
) -> Held:
    """Hold every split of the data where it belongs. Collective.

    What was requested is `auto`, `resident` or `streamed`. The ranks of a node hold the data together; each may read
    with several threads. Floating-point tensors of a split become its type among
    `dtypes`; None leaves them as they are given.

    Raises:
        AgreedError: The data cannot be held, cannot be read, or differ from rank to rank.
    """
    with ranks.together():
        forms = {
            split: find_form(split, dataset, device=device, dtype=dtypes[split], team=node)
            for split, dataset in splits.items()
        }
    sizes = {split: form.example_bytes * form.num_examples for split, form in forms.items()}
    sharing = _sharing(ranks, node, forms, sum(sizes.values()), request)
    memory = _memory(device, ranks, node, sharing)
    holdings = _agree(request, sizes, memory, ranks)
    streamed = [forms[split] for split in splits if holdings[split].streamed]
    free = memory.free_per_rank
    with ranks.together():
        check_held(streamed, batch_size, free)
    most = MOST_BYTES if free is None else min(MOST_BYTES, free // 8)
    how: dict[str, Any] = {"device": device, "team": node, "readers": readers}

    def make(split: str) -> Examples:
        dataset, form = splits[split], forms[split]
        form_of: dict[str, Any] = {"form": form, "dtype": form.dtype, **how}
        if holdings[split].streamed:
            return make_streamed(split, dataset, batch_size=batch_size, most_bytes=most, **form_of)
        return make_resident(split, dataset, batch_size=batch_size, **form_of)

    with ranks.together():
        held = {split: make(split) for split in splits}
    with ranks.together():
        _check_same(ranks, held, forms)
    where = "on every GPU" if device.type == "cuda" else "once per node" if sharing else "in every rank"
    kept = sum(each.bytes for each in holdings.values() if not each.streamed)
    return Held(
        splits=held,
        text="; ".join(f"{split} {_words(forms[split], holdings[split], where)}" for split in splits),
        # Of a streamed split, one super-batch is in use and the next is being read.
        bytes=kept // (ranks.local_size if sharing and device.type == "cpu" else 1)
        + 2 * most * bool(streamed),
    )


def _agree(request: str, sizes: Mapping[str, int], memory: Memory, ranks: Ranks) -> dict[str, Holding]:
    """The same on every rank, as it decides the plan: streamed where one of them has too little memory."""
    with ranks.together():
        own = choose(request, sizes, memory)
    everywhere = ranks.gather(own)
    return {
        split: next((each[split] for each in everywhere if each[split].streamed), own[split])
        for split in sizes
    }


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


def _memory(device: torch.device, ranks: Ranks, node: Node, sharing: bool) -> Memory:
    free = free_memory(device, ranks)
    if device.type == "cuda":
        found = str(getattr(torch.cuda.get_device_properties(device), "uuid", device.index))
        users = node.gather(found).count(found)
        return Memory(free=free, copies=users, ranks=users)
    on_node = None if free is None else free * ranks.local_size
    # What the ranks of a node share counts once, so that their number does not decide.
    return Memory(free=on_node, copies=1 if sharing else node.size, ranks=node.size)


def _check_same(ranks: Ranks, held: Mapping[str, Examples], forms: Mapping[str, Form]) -> None:
    """Refuse data that differ: ranks that see others would fill one picture with two surfaces.

    The digests tell nodes apart. The ranks of a node have read one data set together, so each also compares some examples
    of its own, or all where they are in memory.
    """
    if ranks.size == 1:
        return
    digests = ranks.gather({split: (held[split].digest, _own_digest(form)) for split, form in forms.items()})
    for rank, other in enumerate(digests):
        for split, digest in digests[0].items():
            if other.get(split) != digest:
                raise LandscapeError(
                    f"data: split {split!r} holds other examples on rank {rank} than on rank 0; "
                    f"a random choice of examples needs a fixed seed"
                )


def _own_digest(form: Form) -> str:
    digest = nests.Digest()
    if form.kind == "stored":
        digest.update(form.rows)
    else:
        for index in nests.evenly_spaced(form.num_examples, _COMPARED):
            digest.update(form.read([index]))
    return digest.text()


def _words(form: Form, holding: Holding, where: str) -> str:
    kind = max((leaf for _, leaf in nests.tensors(form.template)), key=lambda t: t[:1].nbytes, default=None)
    kept = "" if kind is None else f" as {str(kind.dtype).removeprefix('torch.')}"
    placement, held = ("streamed", "") if holding.streamed else ("resident", f" {where}")
    return f"{placement}, {size_text(holding.bytes)}{kept}{held} ({holding.reason})"
