"""One network brought next to another by a permutation of its hidden units, which leaves what it computes as it is.

Source: Ainsworth, Hayase and Srinivasa (2022), arXiv:2209.04836.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.alignment.following import followed
from mpi_landscape.evaluation.alignment.matching import distance, matched
from mpi_landscape.evaluation.alignment.proof import Run, check_same, proved, run_of, tensors_by_all_names
from mpi_landscape.evaluation.alignment.symmetries import Symmetries, symmetries_among
from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.engine.dataflow import observed
from mpi_landscape.evaluation.lending import in_evaluation, kept_as_it_is
from mpi_landscape.loading.results import LossFunction

_REFUSED = "align: permutation is not known for this network"
_INSTEAD = "valid is connect without align"


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """A network next to another.

    Attributes:
        state: Its parameters and buffers by name, as they were given, in another order.
        permutations: For each set of units of the symmetries, which unit comes to each place.
        distance_before: Of the parameters of both networks that may be permuted, in units of the weights.
        distance_after: Likewise, after the permutation; never more.
    """

    state: dict[str, Tensor]
    permutations: tuple[Tensor, ...]
    distance_before: float
    distance_after: float


def symmetries_of(
    model: nn.Module,
    loss: LossFunction,
    batch: Any,
    *,
    others: Sequence[Any] | None = None,
    gradients: bool = False,
) -> Symmetries:
    """Which hidden units of a network may be permuted, seen in one pass and borne out by another.

    Args:
        model: Any network; it is called in evaluation mode and is afterwards what it was.
        loss: Called as `loss(model, batch)`; one value per example.
        batch: Some examples, on the network's device.
        others: All other batches that the network is to be called on, if they are at hand: where Python looks at the data, they
            are followed, too.
        gradients: Whether the loss takes derivatives itself.

    Raises:
        LandscapeError: Python looks at numbers on the way, the pass is random, or nothing may be permuted; the text says where.

    Example:
        >>> network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> symmetries_of(network, lambda model, inputs: model(inputs).square().sum(1), torch.randn(5, 3)).sets
        (UnitSet(name='0.weight[0]', size=8),)
    """
    run = run_of(loss, gradients=gradients)
    if isinstance(model, torch.jit.ScriptModule):
        raise LandscapeError(f"{_REFUSED}: a module of TorchScript does not show what leaves it; {_INSTEAD}")
    with exact_arithmetic(), in_evaluation(model), kept_as_it_is(model):
        batches = [batch]
        if _check_steady(model, run, batch, others is not None):
            batches += others or []
            for each in batches[1:]:
                _check_steady(model, run, each, True)
        try:
            found = followed(model, run, batches)
        except LandscapeError as error:
            raise LandscapeError(f"{_REFUSED}: {error}; {_INSTEAD}") from error
        symmetries = symmetries_among(found, (name for name, _ in model.named_parameters()))
        if not symmetries.sets:
            raise LandscapeError(f"{_REFUSED}: {_obstacle(symmetries)}; {_INSTEAD}")
        return proved(model, run, batches, symmetries)


def aligned(
    model: nn.Module,
    state: Mapping[str, Tensor],
    symmetries: Symmetries,
    loss: LossFunction,
    batch: Any,
    *,
    seed: int,
    others: Sequence[Any] = (),
    gradients: bool = False,
) -> Alignment:
    """Bring a second network next to a first, and check that it computes what it did.

    Args:
        model: The first network; it is afterwards what it was.
        state: Parameters and buffers of the second, by name.
        symmetries: Of either.
        loss: Called as `loss(model, batch)`; one value per example.
        batch: Some examples, on the network's device.
        others: Further batches on which the losses are compared.
        seed: Of the order in which units are matched. The bits depend on it and on the two networks alone.
        gradients: Whether the loss takes derivatives itself.

    Raises:
        LandscapeError: The networks do not fit each other, numbers are not finite, scipy is not installed, or the losses of the
            second network change.

    Example:
        >>> network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> loss, inputs = lambda model, inputs: model(inputs).square().sum(1), torch.randn(5, 3)
        >>> symmetries = symmetries_of(network, loss, inputs)
        >>> other = symmetries.permuted(network.state_dict(), [torch.randperm(8)])
        >>> aligned(network, other, symmetries, loss, inputs, seed=0).distance_after
        0.0
    """
    run = run_of(loss, gradients=gradients)
    with exact_arithmetic(), in_evaluation(model), torch.no_grad():
        own = tensors_by_all_names(model)
        whole = _by_all_names(own, state)
        _check_fit(own, whole, symmetries)
        permutations = matched(own, whole, symmetries, seed=seed)
        moved = symmetries.permuted(whole, permutations)
        try:
            check_same(model, run, [batch, *others], (whole, moved))
        except LandscapeError as error:
            raise LandscapeError(f"{_REFUSED}: {error}; {_INSTEAD}") from error
        return Alignment(
            state={name: moved[name].detach().clone() for name in state},
            permutations=tuple(permutations),
            distance_before=distance(own, whole, symmetries.counted),
            distance_after=distance(own, moved, symmetries.counted),
        )


def _check_steady(model: nn.Module, run: Run, batch: Any, all_are_known: bool) -> bool:
    """Check that no parameter decides what a pass does; whether data do.

    Raises:
        LandscapeError: A parameter does, chance does, or data that are not all at hand.
    """
    flow = observed(model, lambda network: run(network, batch))
    if flow.reads is not None and (flow.reads_parameters or not all_are_known):
        what = "parameters or batches" if flow.reads_parameters else "batches"
        raise LandscapeError(f"{_REFUSED}: {flow.reads}, so other {what} may go another way; {_INSTEAD}")
    if flow.random is not None:
        raise LandscapeError(f"{_REFUSED}: it draws random numbers by {flow.random}; {_INSTEAD}")
    return flow.reads is not None


def _by_all_names(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state in which a shared tensor, of which a file may hold one name, has all of them."""
    given = {id(tensor): state[name] for name, tensor in reversed([*own.items()]) if name in state}
    return {**{name: given[id(tensor)] for name, tensor in own.items() if id(tensor) in given}, **state}


def _check_fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor], symmetries: Symmetries) -> None:
    for name in symmetries.orders:
        if name not in state:
            raise LandscapeError(f"align: the second network has no tensor {name}")
        if own[name].shape != state[name].shape:
            raise LandscapeError(
                f"align: {name} has shape {tuple(own[name].shape)} in the first network and {tuple(state[name].shape)} "
                "in the second"
            )
    for which, tensors in (("first", own), ("second", state)):
        for name in symmetries.counted:
            if not bool(torch.isfinite(tensors[name]).all()):
                raise LandscapeError(f"align: {name} of the {which} network is not finite")


def _obstacle(symmetries: Symmetries) -> str:
    """Why nothing may be permuted: the first operation that needs an order, or that there is nothing between input and output."""
    reasons = [
        reason
        for reason in symmetries.in_order.values()
        if " at " in reason or reason.startswith("the buffer")
    ]
    return (
        f"the order of its units counts for {reasons[0]}"
        if reasons
        else "it has no units between its inputs and outputs"
    )
