"""The space in which a path is: which tensors of a network move along it, and how they lie in one vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.lending import tensors_of
from mpi_landscape.wording import listed

State = Mapping[str, Tensor]

_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Place:
    """A tensor in the vector.

    Attributes:
        name: As `named_parameters()` has it; tied ones once.
        shape: Its own.
        dtype: Its own.
    """

    name: str
    shape: torch.Size
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Real numbers: a complex one is two."""
        return self.shape.numel() * (2 if self.dtype.is_complex else 1)


@dataclass(frozen=True, kw_only=True)
class Space:
    """Parameters that a training moves are one vector; frozen ones that differ go straight from one end to the other.

    Attributes:
        places: The tensors of the vector, in its order.
        dtype: Of the vector: float64 where one of them has as many bits, float32 otherwise.
        frozen: Names of the parameters that go straight.
        start: Parameters and buffers at t = 0, by name.
        end: Parameters and buffers at t = 1.
    """

    places: tuple[Place, ...]
    dtype: torch.dtype
    frozen: tuple[str, ...]
    start: State
    end: State

    @property
    def size(self) -> int:
        """Numbers of the vector."""
        return sum(place.size for place in self.places)

    def vector(self, state: State) -> Tensor:
        """(n,), the moving parameters of a state, in memory of its own."""
        return torch.cat([_real(state[place.name]).reshape(-1).to(self.dtype) for place in self.places])

    def tensors(self, vector: Tensor) -> dict[str, Tensor]:
        """The parameters that a vector holds, by name, in their own types; differentiable by the vector."""
        pieces = torch.split(vector, [place.size for place in self.places])
        found = {}
        for place, piece in zip(self.places, pieces, strict=True):
            if place.dtype.is_complex:
                real = torch.float64 if place.dtype == torch.complex128 else torch.float32
                found[place.name] = torch.view_as_complex(piece.to(real).view(*place.shape, 2))
            else:
                found[place.name] = piece.to(place.dtype).view(place.shape)
        return found

    def straight(self, names: Sequence[str], t: float) -> dict[str, Tensor]:
        """Tensors of these names at t on the way straight from start to end; at 0 and 1 the ends' own, bit for bit."""
        if t in (0.0, 1.0):
            state = self.start if t == 0 else self.end
            return {name: state[name] for name in names}
        return {name: mixed(self.start[name], self.end[name], t) for name in names}

    def parameters(self, vector: Tensor, t: float) -> dict[str, Tensor]:
        """All parameters that differ along the path, at t, with the vector there."""
        return {**self.tensors(vector), **self.straight(self.frozen, t)}


def space_of(model: nn.Module, start: State, end: State, *, where: str) -> Space:
    """The space of a path between two states of a network.

    Args:
        model: The network, for names and for what is trained; one of which nothing requires gradients moves as a whole.
        start: Parameters and buffers by the names of `named_parameters()` and `named_buffers()`.
        end: Likewise.
        where: For messages.

    Raises:
        LandscapeError: The ends are the same, not finite, or differ in weights that cannot move, such as whole numbers.
    """
    parameters = dict(model.named_parameters())
    trained = [name for name, each in parameters.items() if each.requires_grad and _can_move(each)]
    moving = trained or [name for name, each in parameters.items() if _can_move(each)]
    for side, state in (("start", start), ("end", end)):
        broken = next((name for name in parameters if not bool(torch.isfinite(state[name]).all())), None)
        if broken is not None:
            raise LandscapeError(
                f"{where}: {broken} is not finite at the {side}; valid are two solutions that have not diverged"
            )
    differing = [name for name in parameters if not torch.equal(start[name], end[name])]
    fixed = [name for name in differing if not _can_move(parameters[name])]
    if fixed:
        kind = str(parameters[fixed[0]].dtype).removeprefix("torch.")
        raise LandscapeError(
            f"{where}: {fixed[0]} is another at the end, and of {kind}: weights in whole numbers cannot move; valid is a path "
            f"between networks in floating-point numbers"
        )
    if not set(differing) & set(moving):
        what = f"; only frozen ones differ ({_some(differing)})" if differing else ""
        raise LandscapeError(
            f"{where}: start and end have the same trained parameters, so the path has no length{what}; valid are two "
            f"solutions"
        )
    kinds = {parameters[name].dtype for name in moving}
    wide = kinds & {torch.float64, torch.complex128}
    return Space(
        places=tuple(
            Place(name=name, shape=parameters[name].shape, dtype=parameters[name].dtype) for name in moving
        ),
        dtype=torch.float64 if wide else torch.float32,
        frozen=tuple(name for name in differing if name not in moving),
        start=dict(start),
        end=dict(end),
    )


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers of a network by name, copied where they are."""
    return {name: tensor.detach().clone() for name, tensor in tensors_of(model).items()}


def mixed(start: Tensor, end: Tensor, t: float) -> Tensor:
    """(1 − t) start + t end in the type of the tensors; whole numbers are those of the nearer end."""
    if not _can_move(start):
        return start if t < 0.5 else end
    return start * (1 - t) + end * t


def offsets(space: Space) -> list[int]:
    """Where each tensor begins in the vector."""
    return [0, *accumulate(place.size for place in space.places)][:-1]


def _can_move(tensor: Tensor) -> bool:
    return (tensor.is_floating_point() and tensor.dtype.itemsize > 1) or tensor.is_complex()


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor) if tensor.is_complex() else tensor


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return listed(names[:_MOST_NAMED]) + more
