"""A split of the data, read once, and kept in memory: that of the device, or of the node."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import KEEP, Batch, Batches, Finisher, checked_order, digest_of, together
from mpi_landscape.loading.form import Form, find_form
from mpi_landscape.loading.sharing import Pause, Workers
from mpi_landscape.loading.store import Store
from mpi_landscape.loading.team import Alone, Team

# Examples that a thread reads at a time.
_CHUNK = 64


class Resident:
    """One split in memory.

    Args:
        form: How its examples are kept.
        batch_size: Examples per batch.
        digest: See `Examples`.
        batch: Gives a batch by its number.
        regroup: Gives, for an order of the examples, what gives the batches of that order by their numbers.
        place: (num_examples,) the position of each example among the batches; None where that is its number.
        device: Where the batches are.

    Attributes:
        batches: All of it; `batches[i]` is made on demand, and small splits keep what they made.
    """

    def __init__(
        self,
        form: Form,
        batch_size: int,
        digest: str,
        batch: Callable[[int], Batch],
        regroup: Callable[[NDArray[np.int64]], Callable[[int], Batch]],
        place: NDArray[np.int64] | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._device = device
        self._form, self._regroup, self._place = form, regroup, place
        self.split, self.num_examples, self.batch_size = form.split, form.num_examples, batch_size
        self.num_batches = -(-form.num_examples // batch_size)
        self.digest = digest
        self.identity = f"{self.num_examples} examples, {digest[:16]}"
        self.batches = Batches(batch, range(self.num_batches))

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
        batch = self._regroup(order)
        return Resident(
            self._form, self.batch_size, self.digest, batch, self._regroup, np.argsort(order), self._device
        )

    def example(self, index: int) -> Any:
        """One example by its number in the data set."""
        position = index if self._place is None else int(self._place[index])
        number, row = divmod(position, self.batch_size)
        return nests.rows(self.batches[number].data, row, row + 1)

    def together(self, indices: Sequence[int]) -> Any:
        """Several examples in one nest; see `Examples`."""
        return together(self, self._form, indices, self._device)

    def whole_rows(self) -> bool:
        """Whether an example is the same in every batch; see `Examples`."""
        return not self._form.collates


def make_resident(
    split: str,
    dataset: Dataset[Any],
    *,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype | None,
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
        device: Where to put the batches.
        dtype: What floating-point tensors become; None leaves them as they are given.
        team: The processes that read.
        readers: Threads of this process that read, where the data set allows several.
        form: As `find_form` found it.

    Raises:
        LandscapeError: The split is empty, an item cannot be read, or items cannot be collated.
    """
    team = team or Alone()
    form = form or find_form(split, dataset, device=device, dtype=dtype, team=team)
    batch_size = min(batch_size, form.num_examples)
    if form.kind != "loose":
        made = _together(form, batch_size, device, team, readers)
        if made is not None:
            return made
    with team.together():
        loose = _loose(form, batch_size, device)
    return loose


def _together(form: Form, batch_size: int, device: torch.device, team: Team, readers: int) -> Resident | None:
    """Rows of shared arrays; None where an example is of another shape than the first."""
    needed = Store.bytes_needed(form.template, form.num_examples, batch_size)
    holder = team if team.size == 1 or team.has_room(needed) else Alone()
    memory = holder.allocate(needed)
    store = Store(form.template, form.num_examples, batch_size, torch.from_numpy(memory))
    start, stop = (form.num_examples * each // holder.size for each in (holder.rank, holder.rank + 1))
    with team.together():
        fitted = _fill(store, form, start, stop, readers)
    if not all(team.gather(fitted)):
        del store
        holder.release(memory)
        return None

    def finished(batch: Callable[[int], Any], keep: int) -> Finisher:
        return Finisher(batch, form, num_examples=form.num_examples, batch_size=batch_size, keep=keep)

    everything = Batches(finished(store.batch, 0), range(store.num_batches))
    digest = team.share("" if team.rank else digest_of(everything))
    kept, keep = store.on(device), KEEP.get(device.type, 0)
    del store, everything
    if device.type != "cpu":
        holder.release(memory)

    def regroup(order: NDArray[np.int64]) -> Callable[[int], Batch]:
        return finished(lambda number: kept.examples(_padded(order, number, batch_size)), keep)

    return Resident(form, batch_size, digest, finished(kept.batch, keep), regroup)


def _fill(store: Store, form: Form, start: int, stop: int, readers: int) -> bool:
    """Read the examples [start, stop); returns whether all have the shapes of the first."""
    chunks = []
    while start < stop:
        # Within a batch, so that examples which do not collate are refused as those of a batch.
        end = min(stop, start + _CHUNK, (start // store.batch_size + 1) * store.batch_size)
        chunks.append(range(start, end))
        start = end

    def read(_: int, chunk: range, __: Pause) -> None:
        kept = form.read(chunk)
        if not form.fits(kept):
            raise _OtherShapeError
        store.put(chunk.start, kept)

    try:
        with Workers(range(readers if form.concurrent else 1)) as threads:
            threads.share_out(chunks, read)
    except _OtherShapeError:
        return False
    return True


class _OtherShapeError(Exception):
    """An example does not have the shapes of the first."""


def _loose(form: Form, batch_size: int, device: torch.device) -> Resident:
    """Each process its own batches: strings, and examples of different shapes, are no rows of an array."""
    form = replace(form, kind="loose")
    batches = []
    for start in range(0, form.num_examples, batch_size):
        examples = [
            form.read_example(index) for index in range(form.num_examples)[start : start + batch_size]
        ]
        data = form.collated(examples + examples[-1:] * (batch_size - len(examples)))
        batches.append(Batch(data=nests.moved(data, device), valid=len(examples)))

    def regroup(order: NDArray[np.int64]) -> Callable[[int], Batch]:
        whole = nests.joined([nests.rows(batch.data, 0, batch.valid) for batch in batches])

        def batch(number: int) -> Batch:
            chosen = torch.from_numpy(_padded(order, number, batch_size)).to(device)
            return Batch(data=nests.taken(whole, chosen), valid=batches[number].valid)

        return batch

    return Resident(form, batch_size, digest_of(batches), batches.__getitem__, regroup, device=device)


def _padded(order: NDArray[np.int64], number: int, batch_size: int) -> NDArray[np.int64]:
    """The examples of a batch of this order, the last one repeated as when the batch is read."""
    chosen = order[number * batch_size : (number + 1) * batch_size]
    return np.concatenate([chosen, np.repeat(chosen[-1:], batch_size - chosen.size)])
