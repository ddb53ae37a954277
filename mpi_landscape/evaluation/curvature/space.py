"""The space in which curvature is taken: which parameters of a network are one vector, and in which units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.layout import Entry, Layout
from mpi_landscape.wording import listed

# Names in a message.
_MOST_NAMED = 3

Parameters = Literal["trainable", "moving"] | Sequence[str]


@dataclass(frozen=True, kw_only=True)
class Space:
    """Some of a network's parameters as one vector, in the order of the layout, tied ones once.

    A complex number is two numbers of the vector, as in the layout.

    Attributes:
        layout: Of the network.
        names: Entries of the layout that count, in its order.

    Example:
        >>> from torch import nn
        >>> from mpi_landscape.geometry.layout import layout_of
        >>> network = nn.Linear(2, 1)
        >>> space = space_of(layout_of(network), parameters=["weight"])
        >>> space.size, space.vector({"weight": torch.tensor([[3.0, 4.0]])}).tolist()
        (2, [3.0, 4.0])
    """

    layout: Layout
    names: tuple[str, ...]

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Of the layout, whose offsets are those of the layout."""
        within = set(self.names)
        return tuple(entry for entry in self.layout.entries if entry.name in within)

    @cached_property
    def sizes(self) -> list[int]:
        """Numbers of each entry."""
        return [entry.size for entry in self.entries]

    @property
    def size(self) -> int:
        """Numbers of the vector, n."""
        return sum(self.sizes)

    @cached_property
    def offsets(self) -> list[int]:
        """Where each entry begins in the vector."""
        return [0, *accumulate(self.sizes)][:-1]

    @cached_property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Of each entry the names of all parameters on its memory, its own first."""
        return tuple(
            (entry.name, *(name for name, first in self.layout.tied if first == entry.name))
            for entry in self.entries
        )

    def vector(self, state: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Tensor:
        """(n,), the parameters of a state by name, in memory of its own."""
        parts = [_numbers(state[entry.name].detach()).to(dtype) for entry in self.entries]
        return torch.cat(parts)

    def tensors(self, vector: Tensor) -> dict[str, Tensor]:
        """What lies in a vector (n,) of float32 or float64, by name, as views.

        Raises:
            LandscapeError: The vector has another shape.
        """
        self.check(vector)
        found = {}
        for entry, piece in zip(self.entries, torch.split(vector, self.sizes), strict=True):
            numbers = piece.reshape(entry.real_shape)
            found[entry.name] = torch.view_as_complex(numbers) if entry.is_complex else numbers
        return found

    def in_layout(self, vector: Tensor) -> Tensor:
        """(layout.size,), a vector (n,) among all parameters of the network, zero in those that do not count."""
        self.check(vector)
        whole = vector.new_zeros(self.layout.size)
        for entry, piece in zip(self.entries, torch.split(vector, self.sizes), strict=True):
            whole[entry.offset : entry.stop] = piece
        return whole

    def of_layout(self, whole: Tensor) -> Tensor:
        """(n,), what of a vector (layout.size,) of all parameters counts."""
        self.layout.check(whole)
        return torch.cat([whole[entry.offset : entry.stop] for entry in self.entries])

    def check(self, vector: Tensor) -> None:
        """Refuse a vector that is not of shape (n,), by a LandscapeError."""
        if tuple(vector.shape) != (self.size,):
            raise LandscapeError(
                f"hessian: a vector has shape {tuple(vector.shape)}; the parameters that count make ({self.size},)"
            )

    def scale(self, vector: Tensor) -> Tensor:
        """The unit of each number in filter-normalized coordinates: the norm of its filter at a place.

        Along a direction d that is normalized filter by filter (Li et al. 2018, arXiv:1712.09913, section 4) each filter moves
        in units of its own norm ‖θ_f‖. With D = diag(‖θ_f‖) the curvature in these units is D H D. It stays the same where a
        layer is multiplied by a number and the next one divided by it, as ReLU networks allow; H does not.

        Args:
            vector: (n,), the parameters at the place.

        Returns:
            (n,) float64, on the vector's device; 0 in a filter of zeros.

        Example:
            Two filters, (3, 4) and (0, 2), have the norms 5 and 2:

            >>> from torch import nn
            >>> from mpi_landscape.geometry.layout import layout_of
            >>> space = space_of(layout_of(nn.Linear(2, 2, bias=False)))
            >>> space.scale(torch.tensor([3.0, 4.0, 0.0, 2.0])).tolist()
            [5.0, 5.0, 2.0, 2.0]
        """
        self.check(vector)
        parts = []
        for entry, piece in zip(self.entries, torch.split(vector.detach().double(), self.sizes), strict=True):
            view = piece.reshape(entry.filter_view)
            over = tuple(axis for axis in range(view.ndim) if axis not in entry.filter_axes)
            norms = torch.linalg.vector_norm(view, dim=over, keepdim=True) if over else view.abs()
            parts.append(norms.expand(view.shape).reshape(-1))
        return torch.cat(parts)


def space_of(
    layout: Layout,
    *,
    parameters: Parameters = "trainable",
    directions: Sequence[Tensor] = (),
    where: str = "hessian.parameters",
) -> Space:
    """The space of some of a network's parameters.

    Args:
        layout: Of the network; running statistics never count.
        parameters: `trainable`, all that a training moves; `moving`, those in which a direction is not zero; or patterns as of
            a shell, such as `*.weight`, of names.
        directions: (layout.size,) each, for `moving`.
        where: For messages.

    Raises:
        LandscapeError: Nothing is left, or a pattern fits no name.
    """
    own = [entry for entry in layout.entries if entry.kind != "buffer"]
    if parameters == "trainable":
        names = [entry.name for entry in own if entry.trainable]
    elif parameters == "moving":
        names = [entry.name for entry in own if any(_moves(entry, each) for each in directions)]
        if not names:
            raise LandscapeError(
                f"{where} is moving, and no direction moves a parameter; valid is trainable, or patterns of names"
            )
    elif isinstance(parameters, str):
        raise LandscapeError(
            f"{where} is {parameters!r}; valid is trainable, moving, or a list of patterns of names such as ['*.weight']"
        )
    else:
        fitting = {
            pattern: {entry.name for entry in own if _fits(entry, pattern, layout)} for pattern in parameters
        }
        unknown = [pattern for pattern, found in fitting.items() if not found]
        if unknown or not fitting:
            examples = [entry.name for entry in own[:_MOST_NAMED]]
            what = f"{unknown[0]!r} fits no parameter" if unknown else "is empty"
            raise LandscapeError(f"{where}: {what}; valid are patterns of names such as {listed(examples)}")
        chosen = set[str]().union(*fitting.values())
        names = [entry.name for entry in own if entry.name in chosen]
    return Space(layout=layout, names=tuple(names))


def _fits(entry: Entry, pattern: str, layout: Layout) -> bool:
    """Whether a name of a tensor's, its own, a tied one, or that without what the network is wrapped in, fits a pattern."""
    names = [entry.name, entry.key, *(name for name, first in layout.tied if first == entry.name)]
    return any(fnmatchcase(name, pattern) for name in names)


def _moves(entry: Entry, direction: Tensor) -> bool:
    return bool(direction[entry.offset : entry.stop].any())


def _numbers(tensor: Tensor) -> Tensor:
    """(m,), its real numbers: of complex ones real and imaginary part, in pairs."""
    real = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
    return real.reshape(-1)
