"""Whether a permuted network computes what it did: asked of the network itself, on real data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.alignment.symmetries import Symmetries
from mpi_landscape.evaluation.calling import call, raised
from mpi_landscape.evaluation.lending import kept_as_it_is, moved_to
from mpi_landscape.loading import nests
from mpi_landscape.loading.results import LossFunction, losses_of

# Of an example's loss, relative to it or to the mean, whichever is larger. Sums in another order differ by some units of the last
# place times the amplification of the layers behind; a unit in a wrong place differs by more.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-9}
# By as much numbers are moved, relative to themselves, or by a tenth where they are zero: after an initialization many are equal.
_MOVE = 0.2

Run = Callable[[nn.Module, Any], Any]


def run_of(loss: LossFunction, *, gradients: bool) -> Run:
    """A pass: (network, data) -> what the loss returns."""

    def run(network: nn.Module, data: Any) -> Any:
        try:
            return call(loss, network, data, gradients=gradients)
        except LandscapeError:
            raise
        except Exception as error:
            raise raised(error, data) from error

    return run


def tensors_by_all_names(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name; shared ones by all of their names."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return {**parameters, **dict(model.named_buffers(remove_duplicate=False))}


def check_same(
    model: nn.Module,
    run: Run,
    batches: Iterable[Any],
    states: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
) -> None:
    """Check that two states of a network have the same losses, but for rounding.

    In the network's own type, and where that is too coarse to tell, in float64.

    Args:
        model: In evaluation mode; afterwards it is what it was.
        run: A pass.
        batches: The examples.
        states: Parameters and buffers by name.

    Raises:
        LandscapeError: They have not, and how far they are apart.
    """
    for data in batches:
        found, allowed = _apart(model, run, data, states)
        if not found <= allowed:
            raise LandscapeError(
                f"the permuted network's loss of an example differs by {found:.1e}, relative to it, where rounding makes at "
                f"most {allowed:.0e}"
            )


def _apart(
    model: nn.Module, run: Run, data: Any, states: tuple[Mapping[str, Tensor], Mapping[str, Tensor]]
) -> tuple[float, float]:
    own = next(iter(model.parameters())).dtype.to_real()
    kind = own if own in TOLERANCE else torch.float32
    found = _difference(model, run, data, states, kind)
    if found <= TOLERANCE[kind] or kind == torch.float64:
        return found, TOLERANCE[kind]
    try:
        return _difference(model, run, data, states, torch.float64), TOLERANCE[torch.float64]
    except LandscapeError:  # a network that computes in its own type alone
        return found, TOLERANCE[kind]


def proved(
    model: nn.Module, run: Run, batches: Sequence[Any], symmetries: Symmetries, *, seed: int = 0
) -> Symmetries:
    """The symmetries that passes bear out, after random permutations at other parameters than the network's own.

    Other parameters, as after an initialization scales and shifts are all alike, so that they could be in any order.

    Raises:
        LandscapeError: None of them, or not all that do so alone do so together.
    """
    generator = torch.Generator().manual_seed(seed)
    state = {name: tensor.detach().clone() for name, tensor in tensors_by_all_names(model).items()}
    moved = {name: _moved(tensor, generator) for name, tensor in state.items()}
    with kept_as_it_is(model):
        if not bool(torch.isfinite(_losses(model, run, batches[0], moved)).all()):
            moved = state
    shuffled = [torch.randperm(each.size, generator=generator) for each in symmetries.sets]

    def holds(of: Symmetries, permutations: Sequence[Tensor]) -> bool:
        try:
            check_same(model, run, batches, (moved, of.permuted(moved, permutations)))
        except LandscapeError:
            return False
        return True

    if holds(symmetries, shuffled):
        return symmetries
    identity, good = symmetries.identity(), []
    for number, each in enumerate(shuffled):
        alone = [each if at == number else still for at, still in enumerate(identity)]
        if holds(symmetries, alone):
            good.append(number)
    left = symmetries.only(good, "a pass that does not bear it out")
    if not good or not holds(left, [shuffled[number] for number in good]):
        raise LandscapeError(
            "align: permutation is not known for this network, as permuting the units of "
            f"{symmetries.sets[0].name} changes its losses; valid is connect without align"
        )
    return left


def _difference(
    model: nn.Module,
    run: Run,
    data: Any,
    states: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    kind: torch.dtype,
) -> float:
    with _computing(model, data, kind) as batch, kept_as_it_is(model):
        one, other = (_losses(model, run, batch, state) for state in states)
    same = (one == other) | (one.isnan() & other.isnan())
    scale = torch.maximum(one.abs(), one.abs().nanmean()).clamp_min(torch.finfo(torch.float64).tiny)
    gap = torch.where(same, 0.0, ((one - other).abs() / scale).nan_to_num(float("inf")))
    return float(gap.max()) if gap.numel() else 0.0


@contextmanager
def _computing(model: nn.Module, data: Any, kind: torch.dtype) -> Iterator[Any]:
    """The network in a type, and the data as they go into it."""
    parameter = next(iter(model.parameters()))
    if parameter.dtype.to_real() == kind:
        yield data
        return
    with moved_to(model, parameter.device, kind):
        yield nests.map_tensors(lambda each: each.to(kind) if each.is_floating_point() else each, data)


def _losses(model: nn.Module, run: Run, data: Any, state: Mapping[str, Tensor]) -> Tensor:
    """(N,) float64: the losses after a state was written into a network."""
    with torch.no_grad():
        for name, tensor in tensors_by_all_names(model).items():
            if name in state:
                tensor.copy_(state[name])
    return losses_of(run(model, data)).detach().reshape(-1).cpu().double()


def _moved(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """The same numbers, each a little larger or smaller and of the same sign."""
    if not (tensor.is_floating_point() or tensor.is_complex()) or tensor.dtype.itemsize == 1:
        return tensor
    noise = _MOVE * (torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 0.5)
    noise = noise.to(tensor.device)
    return torch.where(tensor == 0, noise / 2, tensor * (1 + noise)).to(tensor.dtype)
