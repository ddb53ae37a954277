"""An orthonormal basis that grows by products with a symmetric operator, and the operator within it.

Lanczos' method with full reorthogonalization: the basis is kept in the type of its first vector, every dot product is one in
float64, and the operator's projection on the basis, T = Q H Qᵀ, is a float64 matrix of numpy. A basis that is full begins anew
with some of its Ritz vectors (thick restart: Wu and Simon 2000, SIAM J. Matrix Anal. Appl. 22, 602).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.curvature.starts import gaussian

Floats = NDArray[np.float64]
# A product with a symmetric matrix: (n,) to (n,), on the device of what it is given.
Operator = Callable[[Tensor], Tensor]
# What one rank says instead of all: of numbers that decide.
Agree = Callable[[Any], Any]

# The smallest basis: a restart must leave room.
FEWEST_STEPS = 8
# A new direction is none where it is so many roundings of the operator's size.
_ROUNDINGS = 10
# Numbers of a basis that are in float64 at a time, in small ones; in large ones as many as are in half a vector.
_PIECE = 2**18


def identity(value: Any) -> Any:
    """The same value: for one rank alone."""
    return value


def check_steps(most_steps: int) -> None:
    """Refuse a basis that is too small to begin anew.

    Raises:
        LandscapeError: It is.
    """
    if most_steps < FEWEST_STEPS:
        raise LandscapeError(
            f"a basis of {most_steps} vectors is too small to begin anew; valid is {FEWEST_STEPS} or more"
        )


class Krylov:
    """The basis, the operator within it, and the vectors that are to join it next.

    With Q the basis, the pending vectors p and their couplings c, H Q = T Q + Σ c pᵀ holds to rounding, and so the residuals of
    Ritz vectors are known without a product. Memory: capacity + `most_pending` vectors in the type of the start, and 5 more
    during a step.

    Args:
        product: The operator; its result may be of another floating type.
        start: (n,) the first vector, of any length but zero; its type and device are the basis's.
        capacity: Most vectors of the basis.
        most_pending: Most pending vectors: 1, and 1 for every `inject` while there is one.
        against: (k, n) orthonormal vectors that the basis stays orthogonal to; the operator is then P H P, with P the projection
            off them.
        agree: Through which every number goes that decides: identity, or rank 0's where several ranks take part.

    Attributes:
        size: Number of basis vectors.
        limit: Their number that fills the space, n − k.
        num_products: Made so far.
        scale: The greatest |H q| met, of unit vectors q: a lower bound of the operator's norm.
        norms: |H q| of each vector that joined the basis, also in directions that are projected off.
        epsilon: The rounding of a basis vector, relative.
        finite: Whether every product was.

    Raises:
        LandscapeError: The start is zero or not finite, or lies within `against`.
    """

    def __init__(
        self,
        product: Operator,
        start: Tensor,
        *,
        capacity: int,
        most_pending: int = 1,
        against: Tensor | None = None,
        agree: Agree = identity,
    ) -> None:
        self._product, self._agree = product, agree
        self._against = None if against is None or len(against) == 0 else against
        self.limit = len(start) - (0 if self._against is None else len(self._against))
        self.capacity, self._most_pending = min(capacity, self.limit), most_pending
        rows = min(self.capacity + most_pending, self.limit)
        # First the basis, then what is pending.
        self._rows = torch.empty((rows, len(start)), dtype=start.dtype, device=start.device)
        self.matrix: Floats = np.zeros((self.capacity, self.capacity))
        # Beside a basis of float64 the arithmetic rounds as well, in every one of many products.
        self.epsilon = float(torch.finfo(start.dtype).eps) * (16 if start.dtype == torch.float64 else 1)
        self.size = self.num_products = self._drawn = 0
        self.scale, self.norms = 0.0, list[float]()
        self.finite = True
        # <H q_i, p> of every pending vector p, in rows; and of vectors that were pending and were dropped.
        self._couplings: Floats = np.zeros((0, 0))
        self._dropped: Floats = np.zeros((0, 0))
        if self.limit == 0 or not self._append(start.to(torch.float64, copy=True)):
            raise LandscapeError("a Lanczos run cannot start at a vector that is zero or not finite")

    @property
    def num_pending(self) -> int:
        """How many vectors wait to join the basis."""
        return len(self._couplings)

    @property
    def is_exhausted(self) -> bool:
        """Whether the basis fills the space, so that Ritz values are eigenvalues."""
        return self.size == self.limit

    @property
    def is_invariant(self) -> bool:
        """Whether products lead out of the basis no more, before it fills the space."""
        return self.num_pending == 0 and not self.is_exhausted

    @property
    def is_full(self) -> bool:
        """Whether no vector more has a place."""
        return self.size == self.capacity and not self.is_exhausted

    def expand(self, which: int = -1) -> None:
        """Take a pending vector into the basis, by one product, and let what it leads to be pending, as the last one."""
        place = self.size + which % self.num_pending
        if place != self.size:
            self._rows[[self.size, place]] = self._rows[[place, self.size]]
            self._couplings[[0, which]] = self._couplings[[which, 0]]
        following = self._product(self._rows[self.size]).to(torch.float64, copy=True)
        self.num_products += 1
        norm = float(torch.linalg.vector_norm(following))
        column = self._project(following)
        length = float(torch.linalg.vector_norm(following))
        column, norm, length = self._agree((column, norm, length))
        self.norms.append(norm)
        self.finite = math.isfinite(norm) and bool(np.isfinite(column).all())
        self.size += 1
        if not self.finite:
            return
        self.scale = max(self.scale, norm)
        last = self.size - 1
        self.matrix[: self.size, last] = self.matrix[last, : self.size] = column[: self.size]
        self._couplings = np.column_stack([self._couplings[1:], column[self.size :]])
        self._dropped = np.column_stack([self._dropped, np.zeros(len(self._dropped))])
        occupied = self.size + self.num_pending
        if occupied == self.limit:
            return
        coupling = np.zeros((1, self.size))
        coupling[0, last] = length
        if length > _ROUNDINGS * self.epsilon * self.scale:
            self._rows[occupied].copy_(following.div_(length))
            self._couplings = np.vstack([self._couplings, coupling])
        elif length > self.epsilon * self.scale:
            self._dropped = np.vstack([self._dropped, coupling])

    def inject(self) -> None:
        """Let a random vector be pending, as the last one: for what products do not lead to from the start."""
        if self.size + self.num_pending == self.limit:
            return
        if self.num_pending == self._most_pending:
            self._rows[self.size : self.size + self.num_pending - 1] = self._rows[
                self.size + 1 : self.size + self.num_pending
            ].clone()
            self._dropped = np.vstack([self._dropped, self._couplings[:1]])
            self._couplings = self._couplings[1:]
        appended = False
        while not appended:
            drawn = gaussian(self._rows.shape[1], "injected", self._drawn, dtype=torch.float64)
            appended = self._append(drawn.to(self._rows.device))
            self._drawn += 1

    def outside(self, vector: Tensor) -> tuple[float, float]:
        """(<g, H g>, |H g|) of the unit vector g that is left of a float64 vector (n,) off the basis, by one product.

        What is pending is dropped: no vector joins the basis any more.
        """
        self._couplings = np.zeros((0, self.size))
        self._append(vector)
        unit = self._rows[self.size]
        product = self._product(unit).to(torch.float64, copy=True)
        self.num_products += 1
        norm = float(torch.linalg.vector_norm(product))
        value = float(_take_off(product, unit[None])[0])
        return self._agree((value, norm))  # type: ignore[no-any-return]

    def ritz(self) -> tuple[Floats, Floats, Floats]:
        """Ritz values, ascending; the vectors' coefficients in the basis, (size, size) in columns; norms of residuals."""
        values, vectors = np.linalg.eigh(self.matrix[: self.size, : self.size])
        squares = ((self._couplings @ vectors) ** 2).sum(0)
        # These may not be orthogonal to the others.
        residuals = np.sqrt(squares) + np.abs(self._dropped @ vectors).sum(0)
        return self._agree((values, vectors, residuals))  # type: ignore[no-any-return]

    def leading(self, vectors: Floats) -> int:
        """The pending vector that most of the residuals of some Ritz vectors (columns of coefficients) lie along."""
        return int(np.argmax(((self._couplings @ vectors) ** 2).sum(1)))

    def restart(self, kept: Sequence[int]) -> None:
        """Keep some Ritz vectors (by their places in `ritz`) as the basis, and what is pending."""
        values, vectors, _ = self.ritz()
        chosen, number = vectors[:, list(kept)], len(kept)
        self._combine(chosen, self._rows[:number])
        pending = self._rows[self.size : self.size + self.num_pending]
        for index, vector in enumerate(pending):
            self._rows[number + index].copy_(vector)
        self.matrix[:] = 0
        self.matrix[range(number), range(number)] = values[list(kept)]
        self._couplings = self._couplings @ chosen
        self._dropped = self._dropped @ chosen
        self.size = number

    def vectors(self, coefficients: Floats) -> Tensor:
        """Combinations of the basis: coefficients (size, k) in columns to unit vectors (k, n) in the basis's type."""
        result = self._rows.new_empty((coefficients.shape[1], self._rows.shape[1]))
        self._combine(coefficients, result)
        return result

    def _combine(self, coefficients: Floats, result: Tensor) -> None:
        """Write combinations of the basis; `result` may be the basis's first rows."""
        weights = torch.from_numpy(np.ascontiguousarray(coefficients.T)).to(result.device)
        basis = self._rows[: self.size]
        for piece in _pieces(basis):
            result[:, piece] = (weights @ basis[:, piece].to(torch.float64)).to(result.dtype)

    def _append(self, vector: Tensor) -> bool:
        """Let a float64 vector be pending, orthogonal to all, without coupling; False where nothing is left of it."""
        occupied = self.size + self.num_pending
        length = self._agree(float(torch.linalg.vector_norm(vector)))
        # Twice, as what is left the first time may be small.
        for _ in range(2):
            if not (math.isfinite(length) and length > 0):
                return False
            vector /= length
            self._project(vector)
            length = self._agree(float(torch.linalg.vector_norm(vector)))
            if not length > _ROUNDINGS * self.epsilon:
                return False
        self._rows[occupied].copy_(vector.div_(length))
        self._couplings = np.vstack([self._couplings, np.zeros((1, self.size))])
        return True

    def _project(self, vector: Tensor) -> Floats:
        """Project a float64 vector off all rows, in place, by classical Gram-Schmidt twice; its products with them."""
        rows = self._rows[: self.size + self.num_pending]
        column = np.zeros(len(rows))
        for _ in range(2):
            if self._against is not None:
                _take_off(vector, self._against)
            if len(rows):
                column += _take_off(vector, rows)
        return column


def _pieces(rows: Tensor) -> Iterator[slice]:
    """Cuts along the columns: what is in float64 of them at a time takes no more than a vector does."""
    number, size = rows.shape
    width = max(_PIECE // number, size // (2 * number), 1)
    return (slice(at, at + width) for at in range(0, size, width))


def _take_off(vector: Tensor, rows: Tensor) -> Floats:
    """Subtract from a float64 vector (n,) its parts along rows (k, n), in place; returns its products with them (k,)."""
    products = vector.new_zeros(len(rows))
    for piece in _pieces(rows):
        products += rows[:, piece].to(torch.float64) @ vector[piece]
    for piece in _pieces(rows):
        vector[piece] -= products @ rows[:, piece].to(torch.float64)
    return products.cpu().numpy()
