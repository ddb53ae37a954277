"""A split that is read again for every tile, ahead of the network, by threads.

Threads, not processes: a process that forks under MPI is unsafe on some fabrics, one that starts afresh takes seconds,
and either must hand its pixels over. Decoders of images let other threads run for most of their work: one thread and two
decoded 1.7 and 2.0 times as many JPEG files a second as so many worker processes of a loader, which starts them at every
pass (medians of `benchmarks/loading.py --readers`, 600 files of 160 x 160, two busy cores).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from copy import copy
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import KEEP, Batch, Batches, Finisher, checked_order, digest_of, together
from mpi_landscape.loading.form import Form, find_form
from mpi_landscape.loading.team import Alone, Team

# Reading all of a streamed split to tell it from another would cost as much as a point: so many examples, evenly spaced,
# stand for it.
SAMPLE = 1024
# A shard is read in at least so many pieces, so that only the first of them is waited for.
_PIECES = 4
# A piece holds no more bytes than this, even where there is more memory: it would save nothing.
MOST_BYTES = 2**30
# Seconds between two calls of `between` while a piece is waited for.
_PAUSE = 0.005


class Streamed:
    """One split, read when it is needed.

    A piece holds its batches as they are kept, uint8 where the data set allows, on the device; a batch is finished when
    it is asked for, and kept finished until the next piece as far as `batches.KEEP` goes. At most two pieces are alive:
    the one in use and the one that is read meanwhile.

    Args:
        form: How its examples are read.
        batch_size: Examples per batch.
        indices: Its examples, in the order in which they are put into batches.
        device: Where to put the batches.
        digest: See `Examples`.
        most_batches: Most batches in a piece.
        readers: Threads that read.
    """

    def __init__(
        self,
        form: Form,
        batch_size: int,
        indices: NDArray[np.int64],
        *,
        device: torch.device,
        digest: str = "",
        most_batches: int,
        readers: int,
    ) -> None:
        self.split, self.num_examples = form.split, len(indices)
        self.batch_size = min(batch_size, self.num_examples)
        self.num_batches = -(-self.num_examples // self.batch_size)
        self.digest = digest
        self.identity = f"{self.num_examples} examples, {digest[:16]}" + digest[64:]
        self.most_batches = most_batches
        self.form, self.indices, self.device = form, indices, device
        self.readers = readers if form.concurrent else 1

    def pieces(
        self, first: int, stop: int, between: Callable[[], None] | None = None
    ) -> Generator[Sequence[Batch], None, None]:
        """Super-batches, each of which is read while the one before is in use; see `Examples`."""
        step = max(1, min(self.most_batches, -(-(stop - first) // _PIECES)))
        starts = range(first, stop, step)
        with _Threads(self.readers) as threads:
            ahead = None
            for start in starts:
                ahead = ahead or _Piece(self, threads, start, min(start + step, stop))
                piece, ahead = ahead, None
                batches = piece.wait(between)
                if start + step < stop:
                    ahead = _Piece(self, threads, start + step, min(start + 2 * step, stop))
                yield batches
                # The caller's name for it may live on until the next piece is given a name.
                piece.drop()

    def reordered(self, order: NDArray[np.int64]) -> Streamed:
        """The same examples, read in another order; see `Examples`."""
        other = copy(self)
        other.indices = checked_order(order, self.form)
        return other

    def example(self, index: int) -> Any:
        """One example by its number in the data set, read anew."""
        return self.form.finish(nests.moved(self.form.read([index]), self.device))

    def together(self, indices: Sequence[int]) -> Any:
        """Several examples in one nest; see `Examples`."""
        return together(self, self.form, indices, self.device)

    def whole_rows(self) -> bool:
        """Whether an example is the same in every batch; see `Examples`."""
        return not self.form.collates


def make_streamed(
    split: str,
    dataset: Dataset[Any],
    *,
    batch_size: int,
    device: torch.device,
    dtype: torch.dtype | None,
    team: Team | None = None,
    readers: int = 1,
    form: Form | None = None,
    most_bytes: int = MOST_BYTES,
) -> Streamed:
    """Look at a sample of a split, and be ready to read it. Collective.

    Arguments and errors are those of `make_resident`; process 0 of the team reads the sample for all. A piece takes at
    most `most_bytes`, but has one batch at least.
    """
    team = team or Alone()
    form = form or find_form(split, dataset, device=device, dtype=dtype, team=team)
    batch_size = min(batch_size, form.num_examples)
    most_batches = max(1, most_bytes // (batch_size * form.example_bytes))
    made = partial(Streamed, form, batch_size, most_batches=most_batches, readers=readers)

    def sample() -> str:
        chosen = nests.evenly_spaced(form.num_examples, SAMPLE)
        examples = made(np.asarray(chosen), device=torch.device("cpu"))
        found = digest_of(batch for piece in examples.pieces(0, examples.num_batches) for batch in piece)
        return found if len(chosen) == form.num_examples else f"{found} of {len(chosen)} of them"

    with team.together():
        digest = "" if team.rank else sample()
    return made(np.arange(form.num_examples), device=device, digest=team.share(digest))


class _Threads:
    """Threads that read, for as long as one tile takes: starting one costs less than reading an item."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.stopped = threading.Event()
        # OpenMP keeps the number per thread: one reader, one core.
        self._pool = ThreadPoolExecutor(number, "reader", initializer=torch.set_num_threads, initargs=(1,))

    def __enter__(self) -> _Threads:
        return self

    def __exit__(self, *_: object) -> None:
        # Each thread ends after the item that it is reading.
        self.stopped.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, work: Callable[[], None]) -> Future[None]:
        return self._pool.submit(work)


class _Piece:
    """A super-batch that is being read."""

    def __init__(self, source: Streamed, threads: _Threads, first: int, stop: int) -> None:
        self._source = source
        self._kept: dict[int, Any] = {}
        self._numbers = range(first, stop)
        self._tasks: list[Future[None]] = []
        for number in self._numbers:
            self._tasks += map(threads.submit, _batch_tasks(source, threads, number, self._kept))

    def wait(self, between: Callable[[], None] | None) -> Batches:
        """The batches, when all of them are read."""
        while True:
            done, remaining = wait(self._tasks, None if between is None else _PAUSE, FIRST_EXCEPTION)
            for task in done:
                task.result()
            if not remaining:
                break
            if between is not None:
                between()
        self._tasks = []
        source = self._source
        self._make = Finisher(
            self._kept.__getitem__,
            source.form,
            num_examples=source.num_examples,
            batch_size=source.batch_size,
            keep=KEEP.get(source.device.type, 0),
        )
        return Batches(self._make, self._numbers)

    def drop(self) -> None:
        """Give the memory back, even where the batches still have a name."""
        self._kept.clear()
        self._make.forget()


def _batch_tasks(
    source: Streamed, threads: _Threads, number: int, kept: dict[int, Any]
) -> list[Callable[[], None]]:
    """What reads a batch, in as many parts as there are threads; the part that ends last collates it."""
    start = number * source.batch_size
    indices = source.indices[start : start + source.batch_size].tolist()
    parts = np.array_split(np.arange(len(indices)), min(threads.number, len(indices)))
    examples: list[Any] = [None] * len(indices)
    remaining = [len(parts)]
    lock = threading.Lock()

    def read(part: NDArray[np.int64]) -> None:
        for row in part.tolist():
            if threads.stopped.is_set():
                return
            examples[row] = source.form.read_example(indices[row])
        with lock:
            remaining[0] -= 1
            last = remaining[0] == 0
        if last:
            padded = examples + examples[-1:] * (source.batch_size - len(examples))
            kept[number] = nests.moved(source.form.collated(padded), source.device)
            examples.clear()

    return [partial(read, part) for part in parts]


def check_held(forms: Sequence[Form], batch_size: int, free: int | None) -> None:
    """Refuse splits of which not even two batches fit, the one in use and the next."""
    for form in forms:
        needed = 2 * min(batch_size, form.num_examples) * form.example_bytes
        if free is not None and needed > free:
            raise LandscapeError(
                f"data: two batches of {batch_size} examples of split {form.split!r} take {needed / 1e9:.3g} GB, and "
                f"{free / 1e9:.3g} GB are free; set a smaller compute.batch_size"
            )
