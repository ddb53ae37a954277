"""A split of the data, read once, and kept in memory: that of the device, or of the node."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import KEEP, Batch, Batches, Examples, Finisher, checked_order
from mpi_landscape.loading.digest import Digest, tensor_bytes
from mpi_landscape.loading.form import Form, find_form
from mpi_landscape.loading.reading import collate, read_items
from mpi_landscape.loading.store import Store
from mpi_landscape.loading.team import Alone, Team
from mpi_landscape.wording import one_line

__all__ = [
    "Batch",
    "Examples",
    "Resident",
    "collate",
    "make_resident",
    "one_line",
    "read_items",
    "tensor_bytes",
]

# Examples that a thread reads at a time.
_CHUNK = 64


class Resident:
    """One split in memory.

    Args:
        form: Of its examples.
        batch_size: Examples per batch.
        batch: Gives a batch by its number.
        digest: See `Examples`.
        place: Position of each example among the batches; None for the order of the data set.
        regroup: Gives, for positions of the examples, what gives the batches of these by their numbers.

    Attributes:
        batches: All of it; `batches[i]` is made on demand, and small splits keep what they made.
    """

    def __init__(
        self,
        form: Form,
        batch_size: int,
        batch: Callable[[int], Batch],
        digest: str,
        place: NDArray[np.int64] | None,
        regroup: Callable[[NDArray[np.int64]], Callable[[int], Batch]],
    ) -> None:
        self._form, self._regroup = form, regroup
        self.split, self.num_examples, self.batch_size = form.split, form.num_examples, batch_size
        self.num_batches = -(-form.num_examples // batch_size)
        self.digest = digest
        self.identity = f"{self.num_examples} examples, {digest[:16]}"
        self.batches = Batches(batch, range(self.num_batches))
        self._place = place

    def pieces(
        self,
        first: int,
        stop: int,
        between: Callable[[], None] | None = None,  # noqa: ARG002 - nothing is waited for
    ) -> Generator[Sequence[Batch], None, None]:
        """All of them in one piece; see `Examples`."""
        if first < stop:
            yield self.batches[first:stop]

    def reordered(self, order: NDArray[np.int64]) -> Resident:
        """The same examples in batches of another order; see `Examples`."""
        order = checked_order(order, self._form)
        positions = order if self._place is None else self._place[order]
        return Resident(
            self._form,
            self.batch_size,
            self._regroup(positions),
            self.digest,
            np.argsort(order),
            lambda others: self._regroup(positions[others]),
        )

    def example(self, index: int) -> Any:
        """One example by its number in the data set."""
        position = index if self._place is None else int(self._place[index])
        number, row = divmod(position, self.batch_size)
        return nests.rows(self.batches[number].data, row, row + 1)


def make_resident(
    split: str,
    dataset: Dataset[Any],
    *,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype,
    order: NDArray[np.int64] | None = None,
    team: Team | None = None,
    readers: int = 1,
    form: Form | None = None,
) -> Resident:
    """Read a data set once, item by item, and keep it in the smallest exact form. Collective.

    The processes of a team read together, each its share, into memory that they share where that can be; on a GPU each
    then has its own copy.

    Args:
        split: Name, for messages.
        dataset: Map-style; items as `torch.utils.data.default_collate` takes them.
        batch_size: Examples per batch, made smaller where the split is smaller.
        device: Where the batches shall lie.
        dtype: What floating-point tensors become.
        order: (num_examples,) a permutation: the examples in the order in which they are put into batches.
        team: Who reads.
        readers: Threads of this process that read, where the data set bears several.
        form: As `find_form` found it.

    Raises:
        LandscapeError: The split is empty, an item cannot be read, or items cannot be collated.
    """
    team = team or Alone()
    first = 0 if order is None or not len(order) else int(order[0])
    form = form or find_form(split, dataset, device=device, dtype=dtype, first=first, team=team)
    batch_size = min(batch_size, form.num_examples)
    indices = checked_order(order, form)
    place = None if order is None else np.argsort(indices)
    if form.kind != "loose":
        made = _together(form, batch_size, indices, place, device, team, readers)
        if made is not None:
            return made
    with team.together():
        loose = _loose(form, batch_size, indices, place, device)
    return loose


def _together(
    form: Form,
    batch_size: int,
    indices: NDArray[np.int64],
    place: NDArray[np.int64] | None,
    device: torch.device,
    team: Team,
    readers: int,
) -> Resident | None:
    """Rows of shared arrays; None where an example is of another shape than the first."""
    needed = Store.bytes_needed(form.template, form.num_examples, batch_size)
    holder = team if team.size == 1 or team.has_room(needed) else Alone()
    memory = holder.allocate(needed)
    store = Store(form.template, form.num_examples, batch_size, torch.from_numpy(memory))
    start, stop = (form.num_examples * each // holder.size for each in (holder.rank, holder.rank + 1))
    with team.together():
        fitted = _fill(store, form, indices, start, stop, readers)
    digest = None
    if all(team.gather(fitted)):
        digest = team.share(_digest(store, form, place) if team.rank == 0 else "")
    if device.type != "cpu" or digest is None:
        kept = store.on(device) if digest is not None else None
        del store
        holder.release(memory)
    else:
        kept = store
    if kept is None or digest is None:
        return None
    num_examples, keep = form.num_examples, KEEP.get(device.type, 0)

    def finished(batch: Callable[[int], Any]) -> Callable[[int], Batch]:
        return Finisher(batch, form, num_examples=num_examples, batch_size=batch_size, keep=keep)

    def regroup(positions: NDArray[np.int64]) -> Callable[[int], Batch]:
        return finished(lambda number: kept.examples(_padded(positions, number, batch_size)))

    return Resident(form, batch_size, finished(kept.batch), digest, place, regroup)


def _fill(store: Store, form: Form, indices: NDArray[np.int64], start: int, stop: int, readers: int) -> bool:
    """Read the examples of the positions [start, stop); returns whether all have the shapes of the first."""
    chunks = []
    while start < stop:
        # Within a batch, so that examples which do not collate are refused as those of a batch.
        end = min(stop, start + _CHUNK, (start // store.batch_size + 1) * store.batch_size)
        chunks.append((start, end))
        start = end
    failed = threading.Event()

    def read(chunk: tuple[int, int]) -> bool:
        if failed.is_set():
            return True
        try:
            kept = form.read(indices[slice(*chunk)].tolist())
            if form.fits(kept):
                store.put(chunk[0], kept)
                return True
        except BaseException:
            failed.set()
            raise
        failed.set()
        return False

    if readers == 1 or not form.concurrent:
        return all(map(read, chunks))
    with ThreadPoolExecutor(readers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return all(pool.map(read, chunks))


def _digest(store: Store, form: Form, place: NDArray[np.int64] | None) -> str:
    """Of the examples in the order of the data set."""
    digest = Digest()
    for start in range(0, store.num_examples, store.batch_size):
        stop = min(start + store.batch_size, store.num_examples)
        if place is None:
            kept = nests.rows(store.batch(start // store.batch_size), 0, stop - start)
        else:
            kept = store.examples(place[start:stop])
        digest.update(form.finish(kept))
    return digest.text()


def _loose(
    form: Form,
    batch_size: int,
    indices: NDArray[np.int64],
    place: NDArray[np.int64] | None,
    device: torch.device,
) -> Resident:
    """Each process its own batches: strings, and examples of different shapes, are no rows of an array."""
    form = replace(form, kind="loose")
    digest = Digest()
    batches = []
    for start in range(0, form.num_examples, batch_size):
        examples = [form.read_example(index) for index in indices[start : start + batch_size].tolist()]
        valid = len(examples)
        data = form.collated(examples + examples[-1:] * (batch_size - valid))
        if place is None:
            digest.update(nests.rows(data, 0, valid))
        batches.append(Batch(data=nests.map_tensors(lambda t: t.to(device), data), valid=valid))
    if place is not None:
        for position in place.tolist():
            batch, row = divmod(position, batch_size)
            digest.update(nests.rows(batches[batch].data, row, row + 1))

    def regroup(positions: NDArray[np.int64]) -> Callable[[int], Batch]:
        whole = nests.joined([nests.rows(batch.data, 0, batch.valid) for batch in batches])

        def batch(number: int) -> Batch:
            chosen = _padded(positions, number, batch_size)
            valid = min(batch_size, form.num_examples - number * batch_size)
            return Batch(data=nests.taken(whole, chosen), valid=valid)

        return batch

    return Resident(form, batch_size, batches.__getitem__, digest.text(), place, regroup)


def _padded(positions: NDArray[np.int64], number: int, batch_size: int) -> NDArray[np.int64]:
    """The positions of a batch, the last one repeated as when the batch is read."""
    chosen = positions[number * batch_size : (number + 1) * batch_size]
    return np.concatenate([chosen, np.repeat(chosen[-1:], batch_size - chosen.size)])
