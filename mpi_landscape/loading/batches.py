"""A split of the data as batches: what all ways to hold one have in common."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

import numpy as np
import torch
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading import nests
from mpi_landscape.loading.form import Form

# Finished batches are kept up to this many bytes of a split, so that a small data set is finished once and not at every
# point. What is larger than a processor's cache comes from memory at every point anyway, and as bytes it is a quarter.
KEEP = {"cpu": 2**26, "cuda": 2**30}


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Examples that go through the network together.

    Attributes:
        data: The default collation of `batch_size` items, on the device.
        valid: How many of them count; the rest of the last batch repeats its last item, because another batch size
            can give other bits (pytorch/pytorch#58128).
    """

    data: Any
    valid: int


class Examples(Protocol):
    """A split as batches on the device, kept there or read as they are needed.

    Attributes:
        split: Its name.
        num_examples: How many examples it has.
        batch_size: Examples per batch; the split's size where that is smaller.
        num_batches: How many batches.
        digest: SHA-256 of the examples as collated, in the order of the data set. It depends neither on the batch size
            nor on the device nor on the order of the batches; a sample stands for a split that is not read whole.
        identity: The same in words, for a file.
    """

    split: str
    num_examples: int
    batch_size: int
    num_batches: int
    digest: str
    identity: str

    def pieces(
        self, first: int, stop: int, between: Callable[[], None] | None = None
    ) -> Generator[Sequence[Batch], None, None]:
        """The batches [first, stop) in order, in as many pieces as memory asks for.

        A caller that leaves early closes it (`contextlib.closing`), which ends the reading ahead. A piece must not be
        used any more when the next one is taken. While one is waited for, `between` is called from time to time; what
        it raises ends the reading.

        Raises:
            LandscapeError: An item cannot be read.
        """

    def example(self, index: int) -> Any:
        """One example by its number in the data set: a collated nest of one row."""

    def together(self, indices: Sequence[int]) -> Any:
        """Several examples in one nest, as a batch of them is."""

    def whole_rows(self) -> bool:
        """Whether an example is the same in every batch: it is not where a batch is padded to its longest."""

    def reordered(self, order: NDArray[np.int64]) -> Examples:
        """The same examples in batches of another order; digest and identity stay those of the data set.

        Args:
            order: (num_examples,) int64, a permutation: which example of the data set comes first, second, ...
        """


class Batches(Sequence[Batch]):
    """Batches of these numbers, each made when it is asked for; any thread may ask."""

    def __init__(self, make: Callable[[int], Batch], numbers: range) -> None:
        self._make, self._numbers = make, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Batch: ...

    @overload
    def __getitem__(self, index: slice) -> Batches: ...

    def __getitem__(self, index: int | slice) -> Batch | Batches:
        if isinstance(index, slice):
            return Batches(self._make, self._numbers[index])
        return self._make(self._numbers[index])

    def __iter__(self) -> Iterator[Batch]:
        return (self._make(number) for number in self._numbers)


class Finisher:
    """Finishes batches, which `kept` gives by number, and keeps up to `keep` bytes of those it has finished."""

    def __init__(
        self, kept: Callable[[int], Any], form: Form, *, num_examples: int, batch_size: int, keep: int
    ) -> None:
        self._kept, self._form, self._left = kept, form, keep
        self._num_examples, self._batch_size = num_examples, batch_size
        self._made: dict[int, Batch] = {}
        self._lock = threading.Lock()

    def __call__(self, number: int) -> Batch:
        """The batch of this number."""
        made = self._made.get(number)
        if made is not None:
            return made
        data = self._form.finish(self._kept(number))
        valid = min(self._batch_size, self._num_examples - number * self._batch_size)
        batch = Batch(data=data, valid=valid)
        # What need not be finished is a view, and costs nothing to keep.
        cost = nests.num_bytes(data) if self._form.must_finish else 0
        with self._lock:
            if number not in self._made and cost <= self._left:
                self._left -= cost
                self._made[number] = batch
        return batch

    def forget(self) -> None:
        """Let go of all finished batches, and keep no further ones."""
        with self._lock:
            self._left = -1
            self._made.clear()


def together(examples: Examples, form: Form, indices: Sequence[int], device: torch.device | None) -> Any:
    """Several examples in one nest; made anew of their items where batches are padded."""
    if not form.collates:
        return nests.joined([examples.example(index) for index in indices])
    found = form.finish(form.read(indices))
    return found if device is None else nests.moved(found, device)


def digest_of(batches: Iterable[Batch]) -> str:
    """The digest of the examples of batches, in this order."""
    digest = nests.Digest()
    for batch in batches:
        digest.update(nests.rows(batch.data, 0, batch.valid))
    return digest.text()


def checked_order(order: NDArray[np.int64], form: Form) -> NDArray[np.int64]:
    """An order of the examples of a split, refused where it is no permutation of them."""
    if not np.array_equal(np.sort(order), np.arange(form.num_examples)):
        raise LandscapeError(
            f"data: an order of split {form.split!r} must name each of its {form.num_examples} examples once"
        )
    return np.asarray(order, dtype=np.int64)
