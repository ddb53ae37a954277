"""Items that several threads share out among themselves: each takes the next one, until one fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Any, Generic, TypeVar

import torch

Worker = TypeVar("Worker")
Item = TypeVar("Item")
Result = TypeVar("Result")
# Called between two parts of a long item; what it raises ends the item, and with it all others.
Pause = Callable[[], None]


class Workers(Generic[Worker]):
    """Workers of which each has a thread: the first one that of the caller, the others threads of their own.

    An item may itself be shared out by other workers: its `pause`, handed on as their `between`, ends them with the rest.

    Args:
        workers: What a thread works with, and no other at the same time; at least one.

    Example:
        >>> with Workers(["one", "two"]) as workers:
        ...     workers.share_out([1, 2, 3], lambda worker, item, pause: item**2)
        [1, 4, 9]
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self._workers = list(workers)
        # It starts a thread when there is work for one. OpenMP keeps its number of threads per thread: one thread, one
        # core, and the caller's own number stays as it is.
        self._pool = ThreadPoolExecutor(
            max(1, len(self._workers) - 1), initializer=torch.set_num_threads, initargs=(1,)
        )

    def __enter__(self) -> Workers[Worker]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def share_out(
        self,
        items: Sequence[Item],
        work: Callable[[Worker, Item, Pause], Result],
        between: Pause | None = None,
    ) -> list[Result]:
        """Work on every item once, begun in this order; the results are in the same.

        Args:
            items: What there is to do.
            work: Called with a worker, an item and its `pause`. It calls `pause` where it may be ended; without that it
                is ended after the item alone.
            between: What `pause` calls in the caller's thread, and in no other.

        Raises:
            BaseException: The first that was raised, in whichever thread; no item is begun after it, and none is being
                worked on any more.
        """
        results: list[Any] = [None] * len(items)
        todo = iter(range(len(items)))  # shared by all threads: next() on it is atomic
        errors: list[BaseException] = []

        def pause(between: Pause | None) -> None:
            if errors:
                raise _StoppedError
            if between is not None:
                between()

        def take(worker: Worker, between: Pause | None) -> None:
            try:
                for index in todo:
                    if errors:
                        return
                    results[index] = work(worker, items[index], partial(pause, between))
            except BaseException as error:
                errors.append(error)

        others = [self._pool.submit(take, worker, None) for worker in self._workers[1 : len(items)]]
        try:
            take(self._workers[0], between)
            wait(others)
        except BaseException as error:  # a signal while the others are waited for
            errors.append(error)
        wait(others)
        if errors:
            raise errors.pop(0)  # no longer held by this frame, which its traceback holds
        return results


class _StoppedError(Exception):
    """Another item has failed, and its error is the one to raise."""
