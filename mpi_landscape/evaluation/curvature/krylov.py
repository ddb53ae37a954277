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
    """The basis, the operator within it, and the vector that is to be the next one.

    Memory: capacity + 1 vectors in the type of the start, and 5 more during a step.

    Args:
        product: The operator; its result may be of another floating type.
        start: (n,) the first vector, of any length but zero; its type and device are the basis's.
        capacity: Most vectors of the basis.
        against: (k, n) orthonormal vectors that the basis stays orthogonal to; the operator is then P H P, with P the projection
            off them.
        agree: Through which every number goes that decides: identity, or rank 0's where several ranks take part.

    Attributes:
        size: Number of basis vectors.
        limit: Their number that fills the space, n − k.
        num_products: Made so far.
        scale: The greatest |H q| met, of unit vectors q: a lower bound of the operator's norm.
        first_norm: |H q| of the first vector, also in directions that are projected off.
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
        against: Tensor | None = None,
        agree: Agree = identity,
    ) -> None:
        self._product, self._agree = product, agree
        self._against = None if against is None or len(against) == 0 else against
        self.limit = len(start) - (0 if self._against is None else len(self._against))
        self.capacity = min(capacity, self.limit)
        self._basis = torch.empty((self.capacity + 1, len(start)), dtype=start.dtype, device=start.device)
        self.matrix = np.zeros((self.capacity + 1, self.capacity + 1))
        self.epsilon = float(torch.finfo(start.dtype).eps)
        self.size = self.num_products = self._injected = 0
        self.scale = self.first_norm = 0.0
        self.finite = True
        # <q_i, H next> of every basis vector, and those of vectors that were next and were dropped.
        self._coupling: Floats = np.zeros(0)
        self._lost: list[Floats] = []
        self._has_next = self._put(start.to(torch.float64, copy=True))
        if not self._has_next:
            raise LandscapeError("a Lanczos run cannot start at a vector that is zero or not finite")

    @property
    def is_exhausted(self) -> bool:
        """Whether the basis fills the space, so that Ritz values are eigenvalues."""
        return self.size == self.limit

    @property
    def is_invariant(self) -> bool:
        """Whether products lead out of the basis no more, before it fills the space."""
        return not self._has_next and not self.is_exhausted

    @property
    def is_full(self) -> bool:
        """Whether no vector more has a place."""
        return self.size == self.capacity and not self.is_exhausted

    def expand(self) -> None:
        """Take the next vector into the basis, by one product, and find the next one."""
        following = self._product(self._basis[self.size]).to(torch.float64, copy=True)
        self.num_products += 1
        norm = float(torch.linalg.vector_norm(following))
        self.size += 1
        column = self._project(following)
        length = float(torch.linalg.vector_norm(following))
        column, norm, length = self._agree((column, norm, length))
        self.finite = math.isfinite(norm) and bool(np.isfinite(column).all())
        self.first_norm = norm if self.num_products == 1 else self.first_norm
        if not self.finite:
            self._has_next = False
            return
        self.scale = max(self.scale, norm)
        self.matrix[: self.size, self.size - 1] = self.matrix[self.size - 1, : self.size] = column
        self._lost = [np.append(lost, 0.0) for lost in self._lost]
        self._coupling = np.zeros(self.size)
        self._has_next = not self.is_exhausted and length > _ROUNDINGS * self.epsilon * self.scale
        if self._has_next:
            self._coupling[-1] = length
            self._basis[self.size].copy_(following.div_(length))

    def inject(self) -> None:
        """Let the next vector be a random one: for what the Krylov space of the start does not contain.

        What the former next vector would have brought is lost, and stays in the residuals.
        """
        if self._coupling.any():
            self._lost.append(self._coupling)
        self._coupling = np.zeros(self.size)
        while not self._put(
            gaussian(self._basis.shape[1], "injected", self._injected).to(self._basis.device, torch.float64)
        ):
            self._injected += 1
        self._injected += 1
        self._has_next = True

    def ritz(self) -> tuple[Floats, Floats, Floats]:
        """Ritz values, ascending; the vectors' coefficients in the basis, (size, size) in columns; norms of residuals."""
        values, vectors = np.linalg.eigh(self.matrix[: self.size, : self.size])
        residuals = np.abs(self._coupling @ vectors)
        for lost in self._lost:
            residuals = residuals + np.abs(lost @ vectors)
        return self._agree((values, vectors, residuals))  # type: ignore[no-any-return]

    def restart(self, kept: Sequence[int]) -> None:
        """Keep some Ritz vectors (by their places in `ritz`) as the basis, and the next vector."""
        values, vectors, _ = self.ritz()
        chosen, number = vectors[:, list(kept)], len(kept)
        for piece in _pieces(self._basis[: self.size]):
            part = self._basis[: self.size, piece].to(torch.float64)
            self._basis[:number, piece] = (self._tensor(chosen.T) @ part).to(self._basis.dtype)
        self._basis[number].copy_(self._basis[self.size])
        self.matrix[:] = 0
        self.matrix[range(number), range(number)] = values[list(kept)]
        self._coupling = self._coupling @ chosen
        self._lost = [lost @ chosen for lost in self._lost]
        self.size = number

    def vectors(self, coefficients: Floats) -> Tensor:
        """Combinations of the basis: coefficients (size, k) in columns to unit vectors (k, n) in the basis's type."""
        result = self._basis.new_empty((coefficients.shape[1], self._basis.shape[1]))
        weights = self._tensor(coefficients.T)
        for piece in _pieces(self._basis[: self.size]):
            result[:, piece] = (weights @ self._basis[: self.size, piece].to(torch.float64)).to(result.dtype)
        return result

    def _put(self, vector: Tensor) -> bool:
        """Make a float64 vector the next one, orthogonal to all; False where nothing is left of it."""
        before = float(torch.linalg.vector_norm(vector))
        if not math.isfinite(before) or before == 0:
            return False
        vector /= before
        self._project(vector)
        length = self._agree(float(torch.linalg.vector_norm(vector)))
        if not length > _ROUNDINGS * self.epsilon:
            return False
        # Once more, as what is left may be small.
        vector /= length
        self._project(vector)
        self._basis[self.size].copy_(vector / torch.linalg.vector_norm(vector))
        return True

    def _project(self, vector: Tensor) -> Floats:
        """Project a float64 vector off the basis, in place, by classical Gram-Schmidt twice; its products with the basis."""
        column = np.zeros(self.size)
        for _ in range(2):
            if self._against is not None:
                _take_off(vector, self._against)
            if self.size:
                column += _take_off(vector, self._basis[: self.size])
        return column

    def _tensor(self, array: Floats) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._basis.device)


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
    return products.cpu().numpy()  # type: ignore[no-any-return]
