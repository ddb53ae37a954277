"""Products with a Hessian whose data are shared out: every rank multiplies with its own batches, and all add. Collective."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mpi_landscape.evaluation.calling import is_out_of_memory
from mpi_landscape.evaluation.curvature.products import Products
from mpi_landscape.evaluation.curvature.slope import slopes
from mpi_landscape.loading.batches import Batch, Examples
from mpi_landscape.parallel.fixed_point import summed
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.memory import out_of_memory
from mpi_landscape.placement.placing import Placed

Between = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Level:
    """The mean loss at a point.

    Attributes:
        loss: It.
        gradient: (n,) float64, of the mean.
        count: By how much all examples count.
    """

    loss: float
    gradient: Tensor
    count: float


@dataclass(kw_only=True)
class Shared:
    """What multiplies vectors with the Hessian of the mean over all ranks' batches.

    Attributes:
        products: This rank's, entered.
        placed: The problem on its device.
        examples: The split.
        ranks: The job.
        exponent: Of 2, above which no number of a batch's product is expected; see `parallel.fixed_point`.
        num_made: How many products have been made.
        told: Called after every product.
    """

    products: Products
    placed: Placed
    examples: Examples
    ranks: Ranks
    exponent: int = 0
    num_made: int = 0
    told: Callable[[], None] = field(default=lambda: None)

    def __post_init__(self) -> None:
        self._between: Between | None = None

    def _pieces(self) -> Iterator[Sequence[Batch]]:
        """This rank's batches: neighbors, so that data that stream are read once over all ranks.

        One function for all products, by which graphs that are kept are known.
        """
        own = own_batches(self.examples.num_batches, self.ranks)
        return read(self.examples, own.start, own.stop, self._between)

    def product(self, vector: Tensor, count: float, between: Between) -> Tensor:
        """(n,) float64, the product of a vector with the Hessian of the mean: the same bits for any number of ranks, on each.

        Args:
            vector: (n,), the same on every rank.
            count: By how much all examples count.
            between: Called between batches.

        Raises:
            AgreedError: The network or the loss raised for a batch, or memory does not suffice.
            Stopped: On every rank.
        """

        def terms() -> Iterator[Tensor]:
            with self._in_words(), self.placed.precision.computing():
                for term in self.products.terms(vector[None], self._pieces, between):
                    yield term[0]

        self._between = between

        found = summed(
            terms,
            self.ranks,
            shape=tuple(vector.shape),
            num_terms=self.examples.num_batches,
            exponent=self.exponent,
            device=vector.device,
        )
        self.exponent = found.exponent
        self.num_made += 1
        self.told()
        return found.total / count

    def level(self, between: Between) -> Level:
        """Loss and gradient at the point where the products are. Collective, as `product` in all else."""
        sums: list[tuple[float, float]] = []
        model, loss = self.placed.problem.model, self.placed.problem.loss

        def terms() -> Iterator[Tensor]:
            sums.clear()
            with self._in_words(), self.placed.precision.computing():
                for each in slopes(model, loss, self.products.space, self._pieces(), between):
                    sums.append((each.loss, each.count))
                    yield each.gradient

        self._between = between
        found = summed(
            terms,
            self.ranks,
            shape=(self.products.size,),
            num_terms=self.examples.num_batches,
            exponent=0,
            device=self.placed.device,
        )
        # In the order of the batches, whoever had them.
        everywhere = [each for part in self.ranks.gather(sums) for each in part]
        count = sum(each for _, each in everywhere)
        total = sum(each for each, _ in everywhere)
        return Level(
            loss=total / count if count else math.nan,
            gradient=found.total / (count or math.nan),
            count=count,
        )

    @contextmanager
    def _in_words(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if is_out_of_memory(error):
                raise out_of_memory(error, "hessian", self.placed.batch_size) from error
            raise


def own_batches(num_batches: int, ranks: Ranks) -> range:
    """The numbers of a rank's batches.

    Example:
        >>> [len(own_batches(7, Ranks(rank=rank, size=3))) for rank in range(3)]
        [2, 2, 3]
    """
    return range(num_batches * ranks.rank // ranks.size, num_batches * (ranks.rank + 1) // ranks.size)


def read(
    examples: Examples, first: int, stop: int, between: Between | None = None
) -> Generator[Sequence[Batch], None, None]:
    """The batches [first, stop) of a split; the reading ends with whoever reads them."""
    if first < stop:
        with closing(examples.pieces(first, stop, between)) as pieces:
            yield from pieces


def length_of(vector: Tensor) -> float:
    """The Euclidean norm, in float64."""
    return float(torch.linalg.vector_norm(vector.double()))
