"""Directions in parameter space: random ones, differences, and what is done to them.

A direction is a flat vector in the order of a `Layout`, like the center θ*. Sums run in numpy and
float64: numpy adds in an order that depends on the data alone, while PyTorch's changes with the
number of threads, and a direction must not.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.layout import Entry, Kind, Layout, empty_vector

# What a pattern that is not a glob covers.
_COVERED: dict[str, tuple[Kind, ...]] = {
    "bias": ("bias",),
    "norm": ("norm", "buffer", "scalar"),
    "scalar": ("scalar",),
    "buffer": ("buffer",),
}
# Numbers that are in float64 at a time: in the cache, and few beside the vectors.
_PIECE = 2**20
# Below this share of its length, what is left of a float32 vector is rounding.
PARALLEL = 1e-6


def random_direction(layout: Layout, *, seed: int) -> Tensor:
    """A Gaussian direction (Li et al. 2018, arXiv:1712.09913, section 4), before any normalization.

    Every tensor draws from its own stream, Philox keyed by SHA-256 of "seed:name", where the name is the one without what
    the network is wrapped in (`Entry.key`). So the numbers depend on the seed and on the tensor's name only: not on the order
    in which the network was built, a `DataParallel` around it, the device, PyTorch, or the number of ranks. Running statistics
    are no parameters, and a random step would make variances negative: they stay where they are.

    Returns:
        1D tensor of shape (n,), float32: independent standard normal numbers, and zeros for running statistics.

    Example:
        The same tensor gets the same numbers in another network, and another seed other numbers.

        >>> from torch import nn
        >>> from mpi_landscape.geometry.layout import layout_of
        >>> small, large = layout_of(nn.Linear(2, 3, bias=False)), layout_of(nn.Linear(2, 3))
        >>> first = random_direction(small, seed=1)
        >>> torch.equal(first, random_direction(large, seed=1)[:6])
        True
        >>> torch.equal(first, random_direction(small, seed=2))
        False
    """
    result = empty_vector(layout.size)
    direction = result.numpy()
    for entry in layout.entries:
        if entry.kind == "buffer":
            direction[entry.offset : entry.stop] = 0
            continue
        key = hashlib.sha256(f"{seed}:{entry.key}".encode()).digest()[:16]
        generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
        for at in range(entry.offset, entry.stop, _PIECE):
            stop = min(at + _PIECE, entry.stop)
            direction[at:stop] = generator.standard_normal(stop - at)
    return result


def difference(start: Tensor, end: Tensor) -> Tensor:
    """The direction from one solution of shape (n,) to another: end − start, float32, so that α = 1 is `end`.

    Goodfellow et al. 2015 (arXiv:1412.6544); Li et al. 2018, section 3.

    Raises:
        LandscapeError: The two have different shapes.

    Example:
        >>> difference(torch.tensor([1.0, 2]), torch.tensor([4.0, 6]))
        tensor([3., 4.])
    """
    _check_pair(start, end)
    return torch.sub(end.detach(), start.detach(), out=empty_vector(len(start), device=start.device))


def ignore(direction: Tensor, layout: Layout, patterns: Sequence[str]) -> Tensor:
    """A new direction of shape (n,) and the same type with some tensors set to zero, so that these stay at the center.

    Args:
        direction: 1D tensor of shape (n,).
        layout: The order of the flat vectors.
        patterns: Each a kind (`bias`: biases outside normalization layers; `norm`: all of normalization layers, their
            running statistics too where these count as parameters, and `scalar`: scales and temperatures of one element;
            `buffer`: running statistics only), or a glob of tensor names such as `layer1.*`, with or without what the
            network is wrapped in. A network may lack a kind; a glob must match something.

    Raises:
        LandscapeError: A glob matches no tensor, or nothing is left to move.

    Example:
        >>> from torch import nn
        >>> from mpi_landscape.geometry.layout import layout_of
        >>> ignore(torch.ones(5), layout_of(nn.Linear(4, 1)), ["bias"])
        tensor([1., 1., 1., 1., 0.])
    """
    layout.check(direction, where="direction")
    ignored = names_ignored(layout, patterns)
    result = _without(direction, layout, lambda entry: entry.name in ignored)
    assert result is not None
    return result


def names_ignored(layout: Layout, patterns: Sequence[str]) -> frozenset[str]:
    """The tensors that patterns, as for `ignore`, cover.

    Raises:
        LandscapeError: A glob matches no tensor, or nothing is left to move.
    """
    for pattern in patterns:
        if not any(matches(entry, pattern) for entry in layout.entries) and pattern not in _COVERED:
            names = [entry.name for entry in layout.entries]
            some = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            raise LandscapeError(
                f"ignore: {pattern!r} matches no tensor; "
                f"valid are {', '.join(_COVERED)} and globs of these names: {some}"
            )
    ignored = frozenset(
        entry.name for entry in layout.entries if any(matches(entry, pattern) for pattern in patterns)
    )
    if len(ignored) == len(layout.entries):
        raise LandscapeError(f"ignore: {', '.join(patterns)} leaves no tensor to move; ignore less")
    return ignored


def keep_frozen(direction: Tensor, layout: Layout) -> Tensor:
    """A new direction of shape (n,) that leaves the tensors at the center that no training moves (`Entry.trainable`).

    Example:
        >>> from torch import nn
        >>> from mpi_landscape.geometry.layout import layout_of
        >>> model = nn.Linear(2, 1)
        >>> _ = model.weight.requires_grad_(False)
        >>> keep_frozen(torch.ones(3), layout_of(model))
        tensor([0., 0., 1.])
    """
    layout.check(direction, where="direction")
    result = _without(direction, layout, lambda entry: not entry.trainable)
    assert result is not None  # of a network that is frozen as a whole, all count as trainable
    return result


def within(direction: Tensor, other: Tensor, layout: Layout) -> Tensor:
    """A new direction of shape (n,) that leaves the tensors at the center that another one leaves there.

    Example:
        >>> from torch import nn
        >>> from mpi_landscape.geometry.layout import layout_of
        >>> within(torch.ones(3), torch.tensor([0.0, 2.0, 0.0]), layout_of(nn.Linear(2, 1)))
        tensor([1., 1., 0.])
    """
    layout.check(direction, where="direction")
    layout.check(other, where="direction")
    result = empty_vector(layout.size, direction.dtype, direction.device).copy_(direction)
    for entry in layout.entries:
        if not bool(other[entry.offset : entry.stop].any()):
            result[entry.offset : entry.stop] = 0
    return result


def matches(entry: Entry, pattern: str) -> bool:
    """Whether a pattern, as for `ignore`, covers a tensor."""
    if pattern in _COVERED:
        return entry.kind in _COVERED[pattern]
    return fnmatchcase(entry.name, pattern) or fnmatchcase(entry.key, pattern)


def _without(direction: Tensor, layout: Layout, stays: Callable[[Entry], bool]) -> Tensor | None:
    """A copy with some tensors set to zero; None where these are all."""
    result = empty_vector(layout.size, direction.dtype, direction.device).copy_(direction)
    moved = False
    for entry in layout.entries:
        if stays(entry):
            result[entry.offset : entry.stop] = 0
        else:
            moved = True
    return result if moved else None


def orthogonalize(direction: Tensor, against: Tensor) -> Tensor:
    """The part of a direction orthogonal to another one: d − (⟨d, a⟩ / ⟨a, a⟩)·a, float32, computed in float64.

    Normalizing filter by filter afterwards makes the two slightly oblique again (`cosine` says how much).

    Args:
        direction: 1D tensor of shape (n,).
        against: 1D tensor of shape (n,); a zero vector leaves the direction as it is.

    Raises:
        LandscapeError: The two have different shapes, or are parallel, so that nothing is left.

    Example:
        >>> orthogonalize(torch.tensor([3.0, 4]), torch.tensor([2.0, 0]))
        tensor([0., 4.])
    """
    _check_pair(direction, against)
    square = dot(against, against)
    if square == 0:
        return direction.detach().to(torch.float32, copy=True)
    factor = dot(direction, against) / square
    result = empty_vector(len(direction), device=direction.device)
    pieces = (torch.split(each.detach(), _PIECE) for each in (result, direction, against))
    for into, one, other in zip(*pieces, strict=True):
        into.copy_(one.double() - factor * other.double())
    if dot(result, result) <= PARALLEL**2 * dot(direction, direction):
        raise LandscapeError(
            "orthogonalize: the two directions are parallel; choose another seed or another checkpoint"
        )
    return result


def cosine(first: Tensor, second: Tensor) -> float:
    """Cosine of the angle between two vectors of shape (n,): ⟨a, b⟩ / (‖a‖·‖b‖), in float64; NaN where one is zero.

    Raises:
        LandscapeError: The two have different shapes.

    Example:
        >>> cosine(torch.tensor([2.0, 0, 0]), torch.tensor([3.0, 0, 4])) - 3 / 5
        0.0
    """
    _check_pair(first, second)
    # Two roots, not the root of the product: that one overflows for lengths above 1e154.
    lengths = math.sqrt(dot(first, first)) * math.sqrt(dot(second, second))
    return max(-1.0, min(1.0, dot(first, second) / lengths)) if lengths else math.nan


def _check_pair(first: Tensor, second: Tensor) -> None:
    if first.shape != second.shape or first.dim() != 1:
        raise LandscapeError(
            f"two vectors of one length are needed, got shapes {tuple(first.shape)} and {tuple(second.shape)}"
        )


def dot(first: Tensor, second: Tensor) -> float:
    """⟨a, b⟩ of two 1D tensors of shape (n,), in float64."""
    left, right = array_of(first), array_of(second)
    return math.fsum(
        float(np.sum(left[at : at + _PIECE].astype(np.float64) * right[at : at + _PIECE]))
        for at in range(0, left.size, _PIECE)
    )


def array_of(vector: Tensor) -> NDArray[np.floating]:
    """The numbers of a vector, wherever it lies; nothing is copied on a CPU."""
    array: NDArray[np.floating] = vector.detach().cpu().numpy()
    return array
