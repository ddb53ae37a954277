"""The items of a spectrum: both ends of it, then one probe of the rest after another, by all ranks together. Collective."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpi_landscape.curvatures.items import Items
from mpi_landscape.curvatures.request import Request
from mpi_landscape.curvatures.sharing import Between, Level, Shared, length_of
from mpi_landscape.evaluation.curvature.density import probe
from mpi_landscape.evaluation.curvature.lanczos import extremes
from mpi_landscape.evaluation.curvature.pairs import Pairs, pairs
from mpi_landscape.evaluation.curvature.starts import gaussian
from mpi_landscape.parallel.broadcast import broadcast
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.storage.cells import Row
from mpi_landscape.storage.spectrum.schema import Shape
from mpi_landscape.work.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Ends:
    """What the row of both ends says.

    Attributes:
        pairs: Eigenvalues, residuals and vectors; those of the file, in float32.
        count: By how much all examples count.
    """

    pairs: Pairs
    count: float


@dataclass(kw_only=True)
class Search:
    """What evaluates the items.

    Attributes:
        request: What was asked for.
        shape: How much there is of everything.
        shared: Products, at the point.
        scale: (n,) float64, the units of filter-normalized coordinates; None where they are not asked for.
        noise: Measures the error of a product, relative to its length; on every rank the same number.
        dtype: Of the vectors.
        exponent: With which every item begins, so that its bits do not depend on those before.
        progress: Counts products.
        items: The account, on rank 0.
    """

    request: Request
    shape: Shape
    shared: Shared
    scale: Tensor | None
    noise: Callable[[], float]
    dtype: torch.dtype
    exponent: int
    progress: Progress
    items: Items | None = None
    _ends: dict[str, Ends] = field(default_factory=dict)
    _level: Level | None = None

    @property
    def ranks(self) -> Ranks:
        """The job."""
        return self.shared.ranks

    def account(self) -> Items:
        """The account of a run, of which this rank remembers the rows."""
        self.items = Items(self.shape)
        return self.items

    def row(self, item: int, between: Between) -> Row:
        """The row of an item, on rank 0; what it is elsewhere is of no matter.

        Raises:
            AgreedError: The network or the loss raised for a batch.
            Stopped: On every rank.
        """
        part, number = self.shape.item(item)
        self.shared.exponent, self.shared.num_made = self.exponent, 0
        self._tell()
        row = self._ends_row(part, between) if number is None else self._probe_row(part, number, between)
        self._tell(besides=item)
        return row

    def _tell(self, besides: int | None = None) -> None:
        """How much there is to do, as far as it is known, without an item that is done."""
        if self.items is not None:
            left = sum(
                expected_ends(self.request) if self.shape.item(item)[1] is None else self.shape.num_steps + 1
                for item in self.items
                if item != besides
            )
            self.progress.expect(self.progress.done + left)

    def told(self) -> None:
        """One more product is made; where there are more than were expected, a tenth more are."""
        self.progress.advance()
        if self.progress.done >= self.progress.total:
            self.progress.expect(self.progress.done + 1 + self.progress.done // 10)

    def _product(self, part: str, count: float, between: Between) -> Callable[[Tensor], Tensor]:
        """H, or D H D in filter-normalized coordinates."""
        scale = self.scale if part else None

        def product(vector: Tensor) -> Tensor:
            wide = vector if scale is None else vector.double() * scale
            found = self.shared.product(wide, count, between)
            return found if scale is None else found * scale

        return product

    def _start(self, *words: int | str) -> Tensor:
        size, device = self.shape.num_parameters, self.shared.placed.device
        return gaussian(size, self.request.said.seed, *words, dtype=self.dtype, device=device)

    def _ends_row(self, part: str, between: Between) -> Row:
        if self._level is None:
            self._level = self.shared.level(between)
        level, shape = self._level, self.shape
        gradient = level.gradient * self.scale if part and self.scale is not None else level.gradient
        if math.isfinite(level.loss):
            noise = self.noise()
            found = self._found(part, level.count, noise, between)
        else:
            self.ranks.say(
                f"warning: the {self.request.said.split} loss is {level.loss} at this point, and so nothing else is known there"
            )
            noise = math.nan
            nothing = np.full(shape.num_values, math.nan)
            vectors = torch.full((shape.num_values, shape.num_parameters), math.nan)
            found = Pairs(values=nothing, residuals=nothing, vectors=vectors, num_products=0, settled=False)
        if not found.settled and np.isfinite(found.values).all():
            self.ranks.say(
                f"warning: after {found.num_products} products not all eigenvalues have converged; the residuals in the file say "
                f"how far they are, and a larger hessian.most_steps helps"
            )
        if not self.ranks.is_root:
            return np.empty(0)
        facts = [level.loss, length_of(gradient), noise, level.count, float(self.shared.num_made)]
        kept: NDArray[np.float32] = np.empty((shape.num_kept, shape.num_parameters), dtype=np.float32)
        for number, place in enumerate(self.request.kept()):
            kept[number] = found.vectors[place].float().cpu().numpy()
            turn(kept[number : number + 1].reshape(-1))
        return np.concatenate([found.values, found.residuals, facts, kept.reshape(-1).astype(np.float64)])

    def _found(self, part: str, count: float, noise: float, between: Between) -> Pairs:
        said, request = self.request.said, self.request
        product, start = self._product(part, count, between), self._start("ends", part)
        if not request.is_extremes:
            return pairs(
                product,
                start,
                largest=request.num_largest,
                smallest=request.num_smallest,
                tolerance=said.tolerance,
                most_steps=said.most_steps,
                noise=noise,
                agree=self.ranks.share,
            )
        both = request.num_smallest > 0
        found = extremes(
            product,
            start,
            tolerance=said.tolerance,
            most_steps=said.most_steps,
            noise=noise,
            only="both" if both else "max",
            agree=self.ranks.share,
        )
        number = 1 + both
        return Pairs(
            values=np.array([found.lambda_max, found.lambda_min][:number]),
            residuals=np.array([found.residual_max, found.residual_min][:number]),
            vectors=found.ritz[:number],
            num_products=found.num_products,
            settled=True,
        )

    def _probe_row(self, part: str, number: int, between: Between) -> Row:
        ends, steps = self.ends(part), self.shape.num_steps
        if not np.isfinite(ends.pairs.values).all() or not bool(ends.pairs.vectors.isfinite().all()):
            return np.append(np.full(2 * steps + 2, math.nan), 0.0)
        found = probe(
            self._product(part, ends.count, between),
            self._start("probe", part, number),
            steps=steps,
            deflated=ends.pairs,
            rest=self._start("rest", part, number),
            agree=self.ranks.share,
        )
        facts = [found.trace, found.square, float(self.shared.num_made)]
        return np.concatenate([found.nodes, found.weights, facts])

    def ends(self, part: str) -> Ends:
        """Both ends as the file has them, on every rank: so a run that was ended goes on with the same numbers. Collective."""
        if part not in self._ends:
            row = self.items.rows[self.shape.ends_of(part)] if self.items is not None else None
            shape = self.shape
            facts = None if row is None else row[: len(row) - shape.num_kept * shape.num_parameters]
            facts = self.ranks.share(facts)
            assert facts is not None
            vectors = torch.empty(0, shape.num_parameters)
            if shape.num_kept:
                whole = None if row is None else row[len(facts) :].astype(np.float32)
                vectors = torch.from_numpy(broadcast(self.ranks, whole)).reshape(shape.num_kept, -1)
            values, residuals = facts[: shape.num_values], facts[shape.num_values : 2 * shape.num_values]
            device = self.shared.placed.device
            found = Pairs(
                values=values,
                residuals=residuals,
                vectors=vectors.to(device, self.dtype),
                num_products=0,
                settled=True,
            )
            self._ends[part] = Ends(pairs=found, count=float(facts[-2]))
        return self._ends[part]


def turn(vector: NDArray[np.float32]) -> None:
    """Choose one of an eigenvector's two signs, in place: its number of greatest size is positive, of several the first.

    Example:
        >>> vector = np.array([0.6, -0.8], dtype=np.float32)
        >>> turn(vector)
        >>> vector.tolist() == [np.float32(-0.6), np.float32(0.8)]
        True
    """
    if vector[np.abs(vector).argmax()] < 0:
        np.negative(vector, out=vector)


def expected_ends(request: Request) -> int:
    """Products that the ends are expected to take: 22 to 71 for both ends of small networks, 20 to 29 for ten of one end."""
    return 30 if request.is_extremes else 20 + 3 * (request.num_largest + request.num_smallest)


def expected_products(request: Request, shape: Shape) -> int:
    """Products of a spectrum, as far as can be known before."""
    # One more of each probe, for what is left of the trace.
    return len(shape.parts) * (expected_ends(request) + shape.num_probes * (shape.num_steps + 1))
