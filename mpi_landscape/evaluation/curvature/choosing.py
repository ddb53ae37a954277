"""The choice of a way to compute products, and the proof that a faster one gives what the plain network gives.

Right is double backward through the network itself. Everything faster is a step that is tried on real examples at places
away from where the network came, and dropped where it fails, with a line that says so. Nothing is timed: two runs of one
configuration choose the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.calling import is_out_of_memory
from mpi_landscape.evaluation.curvature.folded import pairs_of
from mpi_landscape.evaluation.curvature.operators import Operator
from mpi_landscape.evaluation.curvature.replica import Replica
from mpi_landscape.evaluation.curvature.space import Space
from mpi_landscape.evaluation.curvature.way import PLAIN, Way
from mpi_landscape.evaluation.lending import kept_as_it_is, tensors_of
from mpi_landscape.evaluation.reach import reach_of
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.results import LossFunction
from mpi_landscape.wording import one_line

# Relative to a product: its rounding is 1e-6 and 1e-15; a ReLU whose input is rounded over zero changes more.
_SAME = {torch.float32: 1e-3, torch.float64: 1e-9}
# Of losses whose last steps are in float64 instead of float32: relative, and nats.
_PRECISE = (1e-4, 1e-5)
# How far away it is tried, in units of the size of each tensor's numbers; where products are not finite, it is not.
_AWAY = (0.01, 0.1, 0.3)


State = Mapping[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What ways are tried on.

    Attributes:
        network: In evaluation mode, prepared.
        loss: As it is called.
        space: Which parameters count.
        batch: Real examples.
        dtype: Of the network.
        tried: Makes a replica of the network.
        operator: What it is to compute.
    """

    network: nn.Module
    loss: LossFunction
    space: Space
    batch: Batch
    dtype: torch.dtype
    tried: Callable[[Way], AbstractContextManager[Replica]]
    operator: Callable[[Way], Operator]

    def losses(self, way: Way, came: State) -> list[Tensor]:
        """(valid,) float64 at each place away from where the network came."""
        return self._at_places(way, came, lambda replica: replica.function(self.batch).losses()[0].detach())

    def products(self, way: Way, came: State) -> list[Tensor]:
        """(n,) at each place, with a random vector, which has a part in every direction."""
        generator = torch.Generator().manual_seed(0)
        row = torch.randn(1, self.space.size, generator=generator, dtype=torch.float64)

        def work(replica: Replica) -> Tensor:
            function = replica.function(self.batch)
            vector = row.to(function.parameters[0].device, self.dtype)
            return replica.products(self.operator(way)(function), vector)[0]

        return self._at_places(way, came, work)

    def _at_places(self, way: Way, came: State, work: Callable[[Replica], Tensor]) -> list[Tensor]:
        # The network is put back here, whatever happens: the exception of a compiler lives on, and with it the network would
        # stay away until both are collected.
        with self.tried(way) as replica, kept_as_it_is(self.network):
            return [work(replica) for _ in _places(self.network, self.space, came, replica)]

    def run(self, network: nn.Module) -> Any:
        """The losses of the examples."""
        return self.loss(network, nests.fresh(self.batch.data))


def choose(trial: Trial, came: State, *, compiled: bool, threads: int = 1) -> Way:
    """The fastest way that proves right.

    Args:
        trial: What to try on.
        came: Parameters and buffers with which the network came; it is afterwards where it was.
        compiled: Whether compiling is asked for.
        threads: How many there are.
    """
    dropped: list[str] = []
    way, wanted = _right(trial, came, dropped)
    reach = reach_of(trial.network, trial.loss)
    if reach.network is not None:
        dropped.append(
            f"copies dropped: {reach.network}; the network itself is used, in one thread of each rank"
        )
        return replace(way, alone=True, dropped=tuple(dropped))
    shared = reach.shared or reach.written()
    if shared is not None:
        way = replace(way, alone=True)
        if threads > 1:
            dropped.append(
                f"threads dropped: {shared}; more ranks, which share nothing, keep further cores busy"
            )
    steps: list[tuple[str, Callable[[Way], Way | None]]] = [
        ("copies", lambda way: replace(way, copies=True)),
        ("folded", lambda way: _with_folding(trial, way)),
        ("channels-last", lambda way: _with_channels_last(trial, way)),
        *([("compiled", lambda way: replace(way, compiled=True))] if compiled else []),
    ]
    together = _together(trial, way, [step for _, step in steps], came, wanted)
    if together is not None:
        return replace(together, dropped=tuple(dropped))
    # One of them fails, and it is said which.
    for name, step in steps:
        try:
            candidate = step(way) if name == "copies" or way.copies else None
            objection = None if candidate is None else _objection(trial, candidate, came, wanted)
        except Exception as error:  # what a user's network, a compiler or a kernel raises
            if is_out_of_memory(error):
                raise
            candidate, objection = None, _reason(error)
        if candidate is not None and objection is None:
            way = candidate
        if objection is not None:
            dropped.append(f"{name} dropped: {objection}")
    return replace(way, dropped=tuple(dropped))


def _together(
    trial: Trial,
    way: Way,
    steps: list[Callable[[Way], Way | None]],
    came: State,
    wanted: list[Tensor],
) -> Way | None:
    """With all steps that the network has a place for, where that proves right at once, as it nearly always does."""
    try:
        for step in steps:
            way = step(way) or way
        return way if _objection(trial, way, came, wanted) is None else None
    except Exception as error:  # as above: one of the steps will raise it again
        if is_out_of_memory(error):
            raise
        return None


def _right(trial: Trial, came: State, dropped: list[str]) -> tuple[Way, list[Tensor]]:
    """The way that is right by itself, with the loss in float64 where that is the same loss, and its products."""
    candidate = _precise(trial, came, dropped) if trial.dtype == torch.float32 else PLAIN
    if candidate.precise:
        try:
            return candidate, trial.products(candidate, came)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            dropped.append(f"loss in float64 dropped: {_reason(error)}")
    return PLAIN, trial.products(PLAIN, came)


def _precise(trial: Trial, came: State, dropped: list[str]) -> Way:
    candidate = replace(PLAIN, precise=True)
    relative, least = _PRECISE
    plain = torch.stack(trial.losses(PLAIN, came))
    try:
        found = torch.stack(trial.losses(candidate, came))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        dropped.append(f"loss in float64 dropped: {_reason(error)}")
        return PLAIN
    # Nothing is gained where they are equal, as where the loss does not call the network by its name.
    if torch.equal(found, plain):
        return PLAIN
    if torch.allclose(found, plain, rtol=relative, atol=least, equal_nan=True):
        return candidate
    worst = int((found - plain).abs().nan_to_num().argmax())
    dropped.append(
        f"loss in float64 dropped: it gives {float(found.flatten()[worst]):.9g}, not {float(plain.flatten()[worst]):.9g}"
    )
    return PLAIN


def _with_folding(trial: Trial, way: Way) -> Way | None:
    pairs = tuple(pairs_of(trial.network, trial.run))
    return replace(way, folded=pairs) if pairs else None


def _with_channels_last(trial: Trial, way: Way) -> Way | None:
    """Where normalizations are folded: what lies between convolutions is then their own, and by itself it is no faster."""
    convolutions = {name for name, module in trial.network.named_modules() if isinstance(module, nn.Conv2d)}
    # On a CPU it rounds too much in this order, see the engine's step.
    grouped = any(isinstance(module, nn.GroupNorm) for module in trial.network.modules())
    if not convolutions & {layer for layer, _ in way.folded} or grouped:
        return None
    return replace(way, channels_last=True)


def _objection(trial: Trial, way: Way, came: State, wanted: list[Tensor]) -> str | None:
    """What speaks against a way; None where its products are those that are wanted."""
    tried = 0
    for found, right in zip(trial.products(way, came), wanted, strict=True):
        if not bool(torch.isfinite(right).all()):
            continue
        tried += 1
        error = torch.linalg.vector_norm((found - right).double())
        size = torch.linalg.vector_norm(right.double())
        if not bool(error <= _SAME[trial.dtype] * size):
            return f"a product differs by {float(error / size):.1e} from that of the network itself"
    if not tried:
        return "products are not finite where it would be tried"
    return None


def _places(network: nn.Module, space: Space, came: State, replica: Replica) -> Iterator[None]:
    """Puts the network, and what shares its parameters, away from where it came, again and again."""
    own = tensors_of(network)
    for seed, far in enumerate(_AWAY):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, value in came.items():
                own[name].copy_(value)
            for entry in space.entries:
                value = own[entry.name]
                size = value.abs().square().mean().sqrt()
                noise = torch.randn(entry.real_shape, generator=generator, dtype=torch.float64)
                drawn = torch.view_as_complex(noise) if entry.is_complex else noise
                step = far * torch.where(size > 0, size, 1.0) * drawn.to(value.device)
                value.add_(step.to(value.dtype))
        replica.take(dict(network.named_buffers()))
        yield


def _reason(error: Exception) -> str:
    if isinstance(error, LandscapeError):  # whose words are for people
        return one_line(error)
    return f"{type(error).__name__}: {one_line(error)[:120]}"


def fewer(batch: Batch, most: int, replica: Replica) -> Batch:
    """The first examples of a batch; all of them where the network does not take fewer."""
    number = min(most, batch.valid)
    try:
        few = Batch(data=nests.rows(batch.data, 0, number), valid=number)
        replica.function(few).losses()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return batch
    return few
