"""One operation of a pass, as the rules of `rules` see it: its arguments by name, and the axes of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from mpi_landscape.evaluation.alignment.axes import Axis, fixed, freeze, unify

# The axes of a tensor, and those of each result of an operation; None for a result that has to stay in order.
Axes = list[Axis]
Results = list[Axes | None]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What an operation of PyTorch's was called with, and what it gave.

    Attributes:
        name: Without a namespace and without the underscore of one that writes in place.
        arguments: By their names in the schema; what was not given is not there.
        results: The tensors that it gave.
        reason: Why axes that it looks at position by position stay in order.
        known: The axes of a tensor.
        statistics: The axes of a running statistic, which may be permuted even though no parameter holds it.
    """

    name: str
    arguments: Mapping[str, Any]
    results: Sequence[Tensor]
    reason: str
    known: Callable[[Tensor], Axes]
    statistics: Callable[[Tensor], Axes]

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return [leaf for leaf in tree_leaves(list(self.arguments.values())) if isinstance(leaf, Tensor)]

    @property
    def first(self) -> Tensor:
        """The first tensor among the arguments."""
        return self.tensors[0]

    def get(self, name: str, otherwise: Any = None) -> Any:
        """An argument."""
        return self.arguments.get(name, otherwise)

    def axes(self, name: str) -> Axes | None:
        """The axes of an argument; None where it is no tensor."""
        tensor = self.arguments.get(name)
        return self.known(tensor) if isinstance(tensor, Tensor) else None

    def tie(self, one: Axis, other: Axis) -> None:
        """Let two axes have one order."""
        unify(one, other, self.reason)

    def fix(self, *axes: Axis) -> None:
        """Leave axes in order."""
        for axis in axes:
            freeze(axis, self.reason)

    def in_order(self, size: int) -> Axis:
        """A new axis whose positions mean something by themselves."""
        return fixed(size, self.reason)

    def dims(self, name: str, ndim: int) -> list[int]:
        """The dimensions that an argument names, none of them negative; all where it is not given."""
        given = self.arguments.get(name)
        if given is None or given == []:
            return list(range(ndim))
        return [
            each % ndim if ndim else 0 for each in (given if isinstance(given, list | tuple) else [given])
        ]
