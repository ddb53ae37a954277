"""A plane around tensors that keep their types: the center as it is given, directions that are made anew (`recipe`).

The point at (α, β) is (θ*.float() + αδ + βη) in the type of each tensor, by float32 operations one after the other, each of them
rounded; by float64 ones where the tensor is in float64.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.blocks import Block, add_squares, per_filter
from mpi_landscape.geometry.directions import PARALLEL
from mpi_landscape.geometry.layout import Entry, Layout
from mpi_landscape.geometry.recipe import Doubles, Recipe, Singles, made_together, single

_Found = TypeVar("_Found")


@dataclass(frozen=True, kw_only=True)
class Look:
    """What was seen of a tensor when its directions were made: all that is told and checked of them.

    Attributes:
        products: Of center and directions with each other, the upper triangle row by row: a sum for each block.
        largest: The largest size of a number, of the center and of each direction.
        moving: Numbers in filters that move, by direction.
        ratios: Least and greatest ratio of a moved filter's norm to the center's, by direction; none where none moves.
        digests: SHA-256 of the center's numbers and of each direction's.
    """

    products: tuple[tuple[float, ...], ...]
    largest: tuple[float, ...]
    moving: tuple[int, ...]
    ratios: tuple[tuple[float, float] | None, ...]
    digests: tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True)
class KeptPlane:
    """The points around a center whose tensors keep their types.

    Attributes:
        layout: The order of the tensors.
        center: They by name: contiguous, on the CPU, in memory of their own.
        directions: By name.
        looks: What was seen of each entry of the layout.
    """

    layout: Layout
    center: Mapping[str, Tensor]
    directions: Mapping[str, Recipe]
    looks: tuple[Look, ...]

    @property
    def moving(self) -> dict[str, list[int]]:
        """Numbers in filters that move, of every entry, by direction."""
        return {
            name: [look.moving[place] for look in self.looks] for place, name in enumerate(self.directions)
        }

    @property
    def types(self) -> str:
        """The types of the tensors, and how many there are of each."""
        counts = Counter(str(each.dtype).removeprefix("torch.") for each in self.center.values())
        return ", ".join(f"{name} ({count} tensors)" for name, count in counts.most_common())

    @property
    def bytes(self) -> int:
        """Memory of the tensors of the center, and of the ends of directions."""
        ends = [each for recipe in self.directions.values() for each in (recipe.end or {}).values()]
        return sum(each.nbytes for each in [*self.center.values(), *ends])

    def fingerprint(self, name: str) -> str:
        """Of the center or a direction: 16 hexadecimal digits."""
        place = ["center", *self.directions].index(name)
        return hashlib.sha256(b"".join(look.digests[place] for look in self.looks)).hexdigest()[:16]

    @cached_property
    def products(self) -> dict[str, tuple[tuple[float, ...], ...]]:
        """The products of center and directions by kind of tensor, each as sums that are to be added."""
        found: dict[str, list[list[float]]] = {}
        for entry, look in zip(self.layout.entries, self.looks, strict=True):
            rows = found.setdefault(entry.kind, [[] for _ in look.products])
            for row, sums in zip(rows, look.products, strict=True):
                row.extend(sums)
        return {kind: tuple(map(tuple, rows)) for kind, rows in found.items()}

    def product(self, one: int, other: int) -> float:
        """⟨a, b⟩ of two of center (0) and directions (1 and 2), over all tensors."""
        place = pairs(1 + len(self.directions)).index((min(one, other), max(one, other)))
        numbers = [number for rows in self.products.values() for number in rows[place]]
        return math.fsum(numbers) if np.isfinite(numbers).all() else math.nan

    @property
    def cosine(self) -> float:
        """Of the angle between the two directions."""
        lengths = math.sqrt(self.product(1, 1)) * math.sqrt(self.product(2, 2))
        return max(-1.0, min(1.0, self.product(1, 2) / lengths)) if lengths else math.nan

    def values(self, entry: Entry, point: Sequence[float]) -> Iterator[tuple[Block, Tensor]]:
        """A tensor at a point, block by block, in its own type: 1D."""
        steps = [
            (coordinate, recipe)
            for coordinate, recipe in zip(point, self.directions.values(), strict=False)
            if coordinate != 0
        ]
        center = self.center[entry.name]
        work = torch.float64 if center.dtype == torch.float64 else torch.float32
        for block, made in made_together([recipe for _, recipe in steps], entry, center):
            value = center.reshape(-1)[block.start : block.stop].to(work)
            for (coordinate, _), numbers in zip(steps, made, strict=True):
                if numbers is not None:
                    # Not at once: whether a kernel rounds in between would depend on where in a block a number is.
                    value = value + torch.from_numpy(numbers).to(work).mul_(coordinate)
            yield block, value.to(center.dtype)

    def check_range(self, axes: Sequence[tuple[float, float]]) -> None:
        """Refuse a rectangle in which tensors do not stay within their types: as a plane is flat, its corners tell.

        Raises:
            LandscapeError: A parameter leaves its type at a corner.
        """
        for entry, look in zip(self.layout.entries, self.looks, strict=True):
            dtype = self.center[entry.name].dtype
            steps = zip(axes, look.largest[1:], strict=True)
            far = look.largest[0] + sum(max(map(abs, axis)) * largest for axis, largest in steps)
            if far <= torch.finfo(dtype).max:
                continue
            for corner in product(*axes):
                beyond = sum(int((~value.isfinite()).sum()) for _, value in self.values(entry, corner))
                if beyond > int((~self.center[entry.name].isfinite()).sum()):
                    kind = str(dtype).removeprefix("torch.")
                    raise LandscapeError(
                        f"grid: at ({', '.join(f'{each:g}' for each in corner)}) {beyond} numbers of {entry.name} would be "
                        f"beyond {kind}; valid is a smaller grid, or another compute.precision than kept"
                    )


def look(entry: Entry, center: Tensor, recipes: Sequence[Recipe]) -> Look:
    """Make the directions of a tensor once, and see what they are.

    Raises:
        LandscapeError: A direction is not finite.
    """
    view, axes, number = entry.filter_view, entry.filter_axes, 1 + len(recipes)
    products: list[list[float]] = [[] for _ in pairs(number)]
    largest, digests = [0.0] * number, [hashlib.sha256(_said(entry, center)) for _ in range(number)]
    squares = [per_filter(view, axes) for _ in range(number)]
    for block, made in made_together(list(recipes), entry, center):
        vectors: list[Singles | None] = [single(center, block), *made]
        digests[0].update(_raw_bytes(center, block))
        with np.errstate(over="ignore", invalid="ignore"):
            for place, vector in enumerate(vectors):
                if vector is None:
                    continue
                if place and not np.isfinite(vector).all():
                    raise LandscapeError(
                        f"normalize: tensor {entry.name} is not finite; look for NaN or infinity in the checkpoint"
                    )
                digests[place].update(vector.tobytes() if place else b"")
                largest[place] = max(largest[place], float(np.abs(vector).max(initial=0.0)))
                add_squares(squares[place], block, vector, axes)
            doubles = [None if vector is None else vector.astype(np.float64) for vector in vectors]
            for into, (one, other) in zip(products, pairs(number), strict=True):
                first, second = doubles[one], doubles[other]
                if first is not None and second is not None:
                    # Not by a BLAS, whose order goes with its threads.
                    into.append(float(np.sum(first * second)))
    each = entry.size // max(1, entry.num_filters)
    return Look(
        products=tuple(map(tuple, products)),
        largest=tuple(largest),
        moving=tuple(int((found > 0).sum()) * each for found in squares[1:]),
        ratios=tuple(_ratios(found, squares[0]) for found in squares[1:]),
        digests=tuple(digest.digest() for digest in digests),
    )


def for_each(
    entries: Sequence[Entry], work: Callable[[Entry], _Found], *, threads: int = 1
) -> dict[str, _Found]:
    """What is found of each entry, by name; the largest first, so that threads end together."""
    ordered = sorted(entries, key=lambda entry: -entry.size)
    if threads == 1:
        return {entry.name: work(entry) for entry in ordered}
    with ThreadPoolExecutor(threads) as pool:
        return dict(zip([entry.name for entry in ordered], pool.map(work, ordered), strict=True))


def multiple(direction: Recipe, against: Recipe, layout: Layout, center: Mapping[str, Tensor]) -> float:
    """⟨d, a⟩ / ⟨a, a⟩ over the tensors that both move, of a direction before it is normalized: what `orthogonalize` takes off.

    Raises:
        LandscapeError: The two are parallel, so that nothing would be left.
    """
    sums: list[list[float]] = [[], [], []]
    for entry in layout.entries:
        if entry.name not in direction.moving:
            continue
        at = center[entry.name]
        for _, (one, other) in made_together([replace(direction, how="none"), against], entry, at):
            assert one is not None
            first = one.astype(np.float64)
            sums[0].append(float(np.sum(first * first)))
            if other is not None:
                second = other.astype(np.float64)
                sums[1].append(float(np.sum(first * second)))
                sums[2].append(float(np.sum(second * second)))
    own, mixed, square = map(math.fsum, sums)
    if square == 0:
        return 0.0
    if own - mixed * mixed / square <= PARALLEL**2 * own:
        raise LandscapeError(
            "orthogonalize: the two directions are parallel; choose another seed or another checkpoint"
        )
    return mixed / square


def pairs(number: int) -> list[tuple[int, int]]:
    """The upper triangle, row by row."""
    return [(one, other) for one in range(number) for other in range(one, number)]


def _ratios(moved: Doubles, center: Doubles) -> tuple[float, float] | None:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.sqrt(moved) / np.sqrt(center)
    usual = ratios[np.isfinite(ratios) & (ratios > 0)]
    return (float(usual.min()), float(usual.max())) if usual.size else None


def _said(entry: Entry, center: Tensor) -> bytes:
    return f"{entry.shape} {center.dtype} ".encode()


def _raw_bytes(center: Tensor, block: Block) -> Any:
    return center.reshape(-1)[block.start : block.stop].view(torch.uint8).numpy()
