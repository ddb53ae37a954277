"""Weight decay, which costs nothing: ‖θ(α, β)‖² is a polynomial of second degree whose coefficients are kept.

With θ(α, β) = θ* + αδ + βη it is vᵀ G v for v = (1, α, β) and the products G of θ*, δ and η with each other. An optimizer such as
torch.optim.SGD adds λθ to the gradient, which is that of (λ/2)‖θ‖²; so this is what it minimizes besides the loss. Products are
of parameters: not of running statistics, of tied tensors once, of complex ones |z|², and of tensors that no direction moves too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import listed, shown

# Which kinds of tensors decay: every parameter, as in torch.optim.SGD and in Li et al.'s trainings; or without biases and what
# scales a normalized activation, as recipes for transformers have it.
SETS: Mapping[str, tuple[str, ...]] = {"all": ("weight", "bias", "norm", "scalar"), "weights": ("weight",)}
_PREFIX = "squared_norm_"
# The upper triangle, row by row, of products with each other: sums that are to be added, by kind of tensor.
Products = Mapping[str, Sequence[Sequence[float]]]
# Numbers that are in float64 at a time.
_PIECE = 2**20


def products(
    tensors: Sequence[tuple[str, int, int]], vectors: Sequence[NDArray[np.float32]]
) -> dict[str, NDArray[np.float64]]:
    """The products of the center and the directions with each other, over the tensors of each set.

    Added in an order that the layout alone decides, so that the same network has the same bits everywhere.

    Args:
        tensors: Kind, first and one past the last number in the flat vectors, of each tensor.
        vectors: The center, then the directions: (n,) each.

    Returns:
        By set, those of the upper triangle of G, row by row: (6,) float64, (3,) for a line.

    Example:
        >>> center, alpha = np.array([3, 4, 1], np.float32), np.array([1, 0, 2], np.float32)
        >>> found = products([("weight", 0, 2), ("bias", 2, 3)], [center, alpha])
        >>> found["all"].tolist(), found["weights"].tolist()  # (θ·θ, θ·δ, δ·δ)
        ([26.0, 5.0, 5.0], [25.0, 3.0, 1.0])
    """
    pairs = list(zip(*np.triu_indices(len(vectors)), strict=True))
    of_kind: dict[str, list[list[float]]] = {}
    for kind, start, stop in tensors:
        sums = of_kind.setdefault(kind, [[] for _ in pairs])
        for low in range(start, stop, _PIECE):
            parts = [vector[low : min(low + _PIECE, stop)].astype(np.float64) for vector in vectors]
            with np.errstate(invalid="ignore", over="ignore"):
                # Not by a BLAS, whose order goes with its threads.
                for into, (one, other) in zip(sums, pairs, strict=True):
                    into.append(float(np.sum(parts[one] * parts[other])))
    return by_set(of_kind) if of_kind else {name: np.zeros(len(pairs)) for name in SETS}


def by_set(of_kind: Products) -> dict[str, NDArray[np.float64]]:
    """The same of products by kind of tensor, each as sums that are to be added."""
    number = len(next(iter(of_kind.values())))
    return {
        name: np.array(
            [_total([of_kind[kind][k] for kind in kinds if kind in of_kind]) for k in range(number)]
        )
        for name, kinds in SETS.items()
    }


def _total(sums: Sequence[Sequence[float]]) -> float:
    numbers = [number for each in sums for number in each]
    # fsum refuses infinities of both signs.
    return math.fsum(numbers) if np.isfinite(numbers).all() else float(np.sum(numbers))


def as_attributes(found: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Products under the attribute names of a file."""
    return {f"{_PREFIX}{name}": numbers for name, numbers in found.items()}


def are_in(attributes: Mapping[str, Any]) -> bool:
    """Whether a file says its products."""
    return all(f"{_PREFIX}{name}" in attributes for name in SETS)


def of_attributes(
    path: str, attributes: Mapping[str, Any], num_vectors: int, num_lines: int = 1
) -> dict[str, NDArray[np.float64]]:
    """The products that a file says; of several lines those of each by itself, one after the other.

    Raises:
        LandscapeError: They are none.
    """
    found = {}
    for name in SETS:
        said = attributes[f"{_PREFIX}{name}"]
        numbers = said if isinstance(said, list) else [said]
        if len(numbers) != num_lines * (num_vectors * (num_vectors + 1) // 2) or not all(
            isinstance(number, float) for number in numbers
        ):
            raise LandscapeError(f"{path}: is damaged: its attribute {_PREFIX}{name} is {shown(said)}")
        found[name] = np.array(numbers)
    return found


def only(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The products among attributes."""
    return {name: value for name, value in attributes.items() if name.startswith(_PREFIX)}


def without(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes without the products, which are for programs."""
    return {name: value for name, value in attributes.items() if not name.startswith(_PREFIX)}


def squared_norm(
    numbers: NDArray[np.float64],
    alpha: NDArray[np.float64],
    beta: NDArray[np.float64] | None,
    *,
    several: bool = False,
) -> NDArray[np.float64]:
    """‖θ(α, β)‖² at the points of a grid: (num_alpha, num_beta) float64, (num_alpha,) for a line.

    Of `several` lines, whose numbers follow each other, (num_alpha, num_lines).

    Example:
        >>> squared_norm(np.array([26.0, 5, 5]), np.array([0.0, -1, 2]), None)  # 26 + 10α + 5α²
        array([26., 21., 66.])
    """
    if several:
        return np.stack([squared_norm(line, alpha, None) for line in numbers.reshape(-1, 3)], axis=1)
    if beta is None:
        center, along, step = numbers
        return np.asarray(center + alpha * (2 * along + alpha * step))
    center, along, across, step, mixed, other = numbers
    first, second = alpha[:, None], beta[None, :]
    return np.asarray(
        center
        + first * (2 * along + first * step)
        + second * (2 * across + second * other)
        + 2 * first * second * mixed
    )


def parsed(text: str, *, where: str) -> tuple[float, str]:
    """λ, and the set that decays, of an option.

    Raises:
        LandscapeError: It is neither.

    Example:
        >>> parsed("5e-4", where="--weight-decay"), parsed("0.1:weights", where="--weight-decay")
        ((0.0005, 'all'), (0.1, 'weights'))
    """
    number, colon, of = text.partition(":")
    try:
        strength = float(number)
    except ValueError:
        raise LandscapeError(
            f"{where} {shown(text)}: expected a number such as 5e-4, or 5e-4:weights to leave out biases and normalizations"
        ) from None
    return checked(strength, of if colon else "all", where=where)


def checked(strength: Any, of: Any, *, where: str) -> tuple[float, str]:
    """λ and the set, where they are such.

    Raises:
        LandscapeError: They are not.
    """
    if isinstance(strength, bool) or not isinstance(strength, (int, float, np.number)):
        raise LandscapeError(f"{where}: weight decay is {shown(strength)}; expected a number such as 5e-4")
    if not (math.isfinite(strength) and strength >= 0):
        raise LandscapeError(f"{where}: weight decay is {strength:g}; expected a finite number, 0 or above")
    if of not in SETS:
        raise LandscapeError(f"{where}: weight decay of {shown(of)}; valid are {listed(list(SETS))}")
    return float(strength), str(of)


def words(attributes: Mapping[str, Any]) -> str:
    """What of it is in the losses, for people; nothing where none is."""
    strength = attributes.get("weight_decay")
    if not isinstance(strength, float):
        return ""
    of = "" if attributes.get("weight_decay_of") == "all" else " of weights (no biases, no normalizations)"
    return f"with weight decay {strength:g}{of}"
