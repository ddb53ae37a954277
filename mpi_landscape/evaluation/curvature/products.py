"""Products of the mean loss's Hessian, or of a part of it, with vectors: of any network, at any place, over all of the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.curvature.choosing import Trial, choose, fewer
from mpi_landscape.evaluation.curvature.graphs import Graphs
from mpi_landscape.evaluation.curvature.noise import Exact, Rounding
from mpi_landscape.evaluation.curvature.operators import Recorded
from mpi_landscape.evaluation.curvature.parts import check_parts, known_parts
from mpi_landscape.evaluation.curvature.preparing import differentiable, plain_kernels, retie
from mpi_landscape.evaluation.curvature.replica import Replica
from mpi_landscape.evaluation.curvature.replicas import Replicas
from mpi_landscape.evaluation.curvature.space import Space
from mpi_landscape.evaluation.curvature.way import PLAIN, Way
from mpi_landscape.evaluation.lending import in_evaluation, moved_to, restore, tensors_of
from mpi_landscape.evaluation.moves import write_state
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.loading.sharing import Pause

Pieces = Callable[[], Iterable[Sequence[Batch]]]
Engine = Literal["auto", "plain", "compiled"]

_TYPES = (torch.float32, torch.float64)
# Examples by which ways are tried, and rounding is measured.
_TRIED, _NOISE = 16, 32


class Products:
    """Products with a symmetric operator of the mean loss, wherever the network is put; afterwards it is where it was.

    The mean is over all examples, by how much each counts where the loss says that. Bits depend on the batches and the way alone,
    not on the number of threads, nor on which graphs are kept (within `exact_arithmetic`). At a kink, such as that of a ReLU,
    it is the Hessian of the side on which torch's derivative stands: the curvature within a linear region.

    The graphs of batches are kept between passes with the same `pieces` at the same place, up to `memory`; where all are kept,
    the data are not read again.

    Args:
        model: The network; it is used itself, in evaluation mode, and given back as it was.
        loss: Called as `loss(model, batch)`, a value per example.
        space: Which parameters count.
        operator: `hessian`, or a part of it.
        dtype: In which the network is computed, torch.float32 or torch.float64; batches are to be of that type.
        threads: Batches computed at once; 1 on a GPU.
        device: Where.
        memory: Bytes of graphs of batches that are kept.
        engine: `plain`, nothing but double backward by the network itself; `auto`, with what proves to be the same on some
            examples of the first batch, or of that of `choose`; `compiled`, by compiled code as well.

    Attributes:
        size: Numbers of a vector, n.
        count: By how much all examples counted in the last pass.
        loss: The mean loss that the last pass met.
        way: How products are computed; known after the first pass, or `choose`.

    Example:
        The mean of (w·x)² has the Hessian 2 mean(x xᵀ):

        >>> from mpi_landscape.evaluation.curvature.space import space_of
        >>> from mpi_landscape.geometry.layout import layout_of
        >>> model = nn.Linear(2, 1, bias=False)
        >>> batch = Batch(data=torch.tensor([[1.0, 0.0], [1.0, 2.0]]), valid=2)
        >>> with Products(model, lambda model, x: model(x)[:, 0] ** 2, space_of(layout_of(model)),
        ...               device=torch.device("cpu")) as products:
        ...     products.product(torch.eye(2), lambda: [[batch]])
        tensor([[2., 2.],
                [2., 4.]], dtype=torch.float64)
    """

    def __init__(
        self,
        model: nn.Module,
        loss: LossFunction,
        space: Space,
        *,
        operator: str = "hessian",
        dtype: torch.dtype = torch.float32,
        threads: int = 1,
        device: torch.device,
        memory: int = 0,
        engine: Engine = "auto",
    ) -> None:
        if dtype not in _TYPES:
            raise LandscapeError(
                f"hessian: second derivatives in {str(dtype).removeprefix('torch.')} are wrong by percents; valid is "
                f"compute.precision float32 or float64"
            )
        if not space.size:
            raise LandscapeError("hessian: no parameter counts; valid is a network with trainable parameters")
        if operator != "hessian":
            known_parts(loss, operator)
        self._model, self._loss, self.space = model, loss, space
        self._dtype, self._device, self._memory, self._engine = dtype, device, memory, engine
        self._part = None if operator == "hessian" else operator
        self._replicas = Replicas(
            model, loss, space, operator=operator, threads=threads if device.type == "cpu" else 1
        )
        self.size, self.count, self.loss = space.size, 0.0, float("nan")
        self.way: Way | None = PLAIN if engine == "plain" else None
        self._graphs = Graphs(memory)
        self._rounding: Rounding | None = None
        self._lent = ExitStack()

    def __enter__(self) -> Products:
        with ExitStack() as lent:
            lent.enter_context(in_evaluation(self._model))
            lent.enter_context(moved_to(self._model, self._device, self._dtype))
            retie(self._model, self.space.layout)
            self._came = {name: each.detach().clone() for name, each in tensors_of(self._model).items()}
            lent.callback(restore, self._model, self._came)
            lent.enter_context(differentiable(self._model, self.space))
            lent.callback(self._end)
            self._kernels = plain_kernels(self._model)
            if self.way is not None:
                self._replicas.begin(self.way)
            self._lent = lent.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._lent.__exit__(*error)

    def put(self, state: Mapping[str, Tensor]) -> None:
        """Give the network other parameters and buffers; those that are not named stay as they are now.

        Args:
            state: By the names of `named_parameters()` and `named_buffers()`, in the network's shapes and of any type; they
                are copied.

        Raises:
            LandscapeError: The network has no tensor of a name, or one of another shape.
        """
        self._graphs.forget()
        write_state(tensors_of(self._model), state)
        self._replicas.hand_on()

    def choose(self, batch: Batch) -> Way:
        """Try what would be faster on some examples of a batch, and take what proves right; asked once.

        Several ranks choose alike where they are given the same batch.
        """
        if self.way is None:
            compiled = self._engine == "compiled" and self._replicas.can_compile
            with self._replicas.tried(PLAIN) as replica:  # code is compiled for batches of one size
                few = batch if compiled else fewer(batch, _TRIED, replica)
            trial = Trial(
                network=self._model,
                loss=self._loss,
                space=self.space,
                batch=few,
                dtype=self._dtype,
                tried=self._replicas.tried,
                operator=self._replicas.operator_of,
            )
            with self._kernels():
                self.way = choose(trial, self._came, compiled=compiled, threads=self._replicas.threads)
            self._replicas.begin(self.way)
        return self.way

    def terms(self, vectors: Tensor, pieces: Pieces, between: Pause | None = None) -> Iterator[Tensor]:
        """What each batch adds: the products of the sum of its valid examples' losses, in the order of the batches.

        Args:
            vectors: (k, n), of any floating-point type.
            pieces: Gives the batches, in sequences of which one at a time is in memory; the same batches each time.
            between: Called between batches in the caller's thread; what it raises ends the pass.

        Yields:
            (k, n) of the network's type, on its device.
        """
        rows = vectors.to(self._device, self._dtype)
        for row in rows:
            self.space.check(row)
        count, total = 0.0, 0.0

        def work(replica: Replica, item: tuple[int, Callable[[], Batch]], pause: Pause) -> Any:
            number, batch = item
            recorded, kept = self._recorded(replica, number, batch)
            found = replica.products(recorded, rows, keep=kept)
            pause()
            total = float(recorded.total)
            # Where the loss is no number, neither is its curvature, whatever derivatives say.
            return found if math.isfinite(total) else found * math.nan, recorded.count, total

        for items in self._items(pieces):
            with self._kernels():
                done = self._replicas.workers.share_out(items, work, between)
            for found, counted, summed in done:
                count, total = count + counted, total + summed
                yield found
        self._graphs.passed()
        self.count, self.loss = count, total / (count or 1.0)

    def product(self, vectors: Tensor, pieces: Pieces, between: Pause | None = None) -> Tensor:
        """(k, n) float64: the products of the mean over all examples, with terms added in float64 in the batches' order."""
        total = torch.zeros(len(vectors), self.size, dtype=torch.float64, device=self._device)
        for term in self.terms(vectors, pieces, between):
            total += term
        return total / (self.count or 1.0)

    def noise(self, pieces: Pieces, between: Pause | None = None) -> float:
        """The error of a product by rounding, relative to the product, where the network is now, on some examples.

        It is that of a vector near the largest eigenvalues, against the network itself in float64; so times max |λ| it is the
        size below which an eigenvalue is not told from zero. NaN where a product is not finite.
        """
        with ExitStack() as reading:
            read = pieces()
            reading.callback(getattr(read, "close", _nothing))
            batch = next(piece[0] for piece in read if len(piece))
            way = self.choose(batch)
            if between is not None:
                between()
            if self._rounding is None:
                args = self._model, self._loss, self.space, self._replicas.plain, self._device
                finer = self._dtype == torch.float32 and way.copies
                like = torch.empty(0, dtype=self._dtype, device=self._device)
                self._rounding = Rounding(
                    self._replicas, partial(Exact, *args) if finer else None, like, self.size
                )
            with self._kernels():
                return self._rounding.of(fewer(batch, _NOISE, self._replicas.first))

    def _items(self, pieces: Pieces) -> Iterator[list[tuple[int, Callable[[], Batch]]]]:
        """Batches by number, as many at a time as there are threads: no more products are alive."""
        known = self._graphs.begin(pieces)
        if known is not None:
            window = len(self._replicas)
            for start in range(0, known, window):
                yield [(number, _none) for number in range(start, min(start + window, known))]
            return
        with ExitStack() as reading:
            read, before = pieces(), 0
            # Data that stream have threads, which would go on reading after a stop.
            reading.callback(getattr(read, "close", _nothing))
            for piece in read:
                if len(piece):
                    with self._kernels():
                        self._prepare(piece[0])
                window = len(self._replicas) or 1
                for start in range(0, len(piece), window):
                    places = range(start, min(start + window, len(piece)))
                    yield [(before + place, partial(piece.__getitem__, place)) for place in places]
                before += len(piece)

    def _recorded(self, replica: Replica, number: int, batch: Callable[[], Batch]) -> tuple[Recorded, bool]:
        """The operator of a batch, and whether it is kept."""
        recorded = self._graphs.get(number)
        if recorded is not None:
            return recorded, True
        read = batch()
        kept = self._graphs.takes(number, read)
        if kept:  # a piece's memory may be another batch's when the next one is read
            read = Batch(data=nests.map_tensors(torch.clone, read.data), valid=read.valid)
        recorded = self._replicas.operator(replica.function(read))
        if kept:
            self._graphs.keep(number, recorded)
        return recorded, kept

    def _prepare(self, batch: Batch) -> None:
        """Before the first batch: how to go, whether a part is known, and what the graph of a batch takes."""
        way = self.choose(batch)
        first = self._replicas.first
        if self._part is not None:
            check_parts(self._part, first.function(fewer(batch, _TRIED, first)))
            self._part = None
        if self._graphs.price is None and (self._memory <= 0 or way.compiled):
            self._graphs.price = 0.0
        if self._graphs.price is None:
            self._graphs.measure(
                batch,
                lambda: self._replicas.operator(first.function(batch)),
                besides=tensors_of(self._model).values(),
                more=self.size * self._dtype.itemsize,
            )

    def _end(self) -> None:
        self._graphs.forget()
        self._replicas.close()
        self._rounding = None


def _nothing() -> None:
    """What has no end of its own."""


def _none() -> Batch:
    raise AssertionError
