"""What a pass computes from what: a network and its loss, watched operation by operation.

A pass at one point shows what happens at all of them only where Python does not look at numbers: then the same operations follow
each other for all parameters, and for all batches of the same shapes. So a step that has looked at one pass asks here whether
anything was read, and whether a tensor comes from the parameters at all, instead of comparing numbers at a few points.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.engine.description import Probe
from mpi_landscape.evaluation.engine.observing import Call, Observer, Operation
from mpi_landscape.evaluation.engine.provenance import Provenance, Source
from mpi_landscape.evaluation.engine.watching import watched
from mpi_landscape.evaluation.lending import tensors_of


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What was seen in a pass.

    Attributes:
        reads: Where Python looks at numbers that depend on the parameters or, if there is no such place, on the data,
            or where a shape depends on them; None if nowhere.
        reads_parameters: Whether these are numbers that depend on the parameters.
        random: What draws random numbers; None if nothing does.
        unused: The moving tensors that enter no operation.
        operations: In their order.
        calls: Those of the watched layers, by name.
    """

    reads: str | None
    reads_parameters: bool
    random: str | None
    unused: tuple[str, ...]
    operations: tuple[Operation, ...]
    calls: Mapping[str, tuple[Call, ...]]

    def once(self, names: Iterable[str]) -> dict[str, Call]:
        """The one call of each of those watched layers that take one tensor and give one, once in the pass."""
        calls = {name: self.calls.get(name, ()) for name in names}
        return {name: each[0] for name, each in calls.items() if len(each) == 1 and each[0].plain}

    def is_alone(self, layer: str) -> bool:
        """Whether no other code uses a watched layer's own moving tensors."""
        return all(
            each.within == layer
            for each in self.operations
            if any(name.rpartition(".")[0] == layer for name in each.parameters)
        )

    def users(self, memory: int) -> frozenset[str]:
        """The layers in whose calls some memory is used; an empty name for a use elsewhere."""
        return frozenset(each.within for each in self.operations if memory in each.memory)


def observed(
    network: nn.Module,
    run: Callable[[nn.Module], Any],
    *,
    moving: Mapping[str, Tensor] | None = None,
    layers: Sequence[str] = (),
) -> Flow:
    """Run a network once, without gradients, and see what comes from what.

    Args:
        network: What is run; `run` calls it and its loss.
        run: (network) -> the losses.
        moving: The tensors that move with the point, by name; all parameters unless given.
        layers: Names of modules whose calls are of interest.

    Raises:
        Exception: What the network or the loss raises.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> observed(layer, lambda network: network(torch.ones(3, 2))).reads is None
        True
        >>> observed(layer, lambda network: network.weight.sum().item()).reads.split(" at ")[0]
        'item of the parameters is read'
    """
    if moving is None:
        moving = dict(network.named_parameters())
    own = {id(tensor) for tensor in moving.values()}
    fixed = [each for each in (*network.parameters(), *network.buffers()) if id(each) not in own]
    observer = Observer(Provenance(moving, fixed))
    hooks = []
    for name in layers:
        module = network.get_submodule(name)
        hooks.append(module.register_forward_pre_hook(partial(observer.enter, name), with_kwargs=True))
        hooks.append(module.register_forward_hook(partial(observer.leave, name)))

    def watch() -> None:
        observer.returned(observer.around(lambda: run(network)))

    with _stirred() as stirred:
        watched(hooks, watch)
        touched = _global_generators() != stirred
    drawn = observer.random or ("a global generator" if touched else None)
    return Flow(
        reads=observer.reads.get(Source.PARAMETERS, observer.reads.get(Source.DATA)),
        reads_parameters=Source.PARAMETERS in observer.reads,
        random=drawn,
        unused=tuple(name for name in moving if name not in observer.used),
        operations=tuple(observer.operations),
        calls={name: tuple(calls) for name, calls in observer.calls.items()},
    )


def steady(probe: Probe, layers: Sequence[str] = ()) -> Flow:
    """What is seen in a pass of a probe's network, which is the same at all points and for all batches of the same shapes.

    Raises:
        LandscapeError: Python looks at numbers, so another pass may do something else.
    """
    flow = observed(probe.network, probe.run, moving=moving_tensors(probe), layers=layers)
    if flow.reads is not None:
        raise LandscapeError(f"{flow.reads}, so other points or batches may go another way")
    return flow


def moving_tensors(probe: Probe) -> dict[str, Tensor]:
    """The tensors of a probe's network that move with the point."""
    tensors = tensors_of(probe.network)
    return {entry.name: tensors[entry.name] for entry in probe.layout.entries}


@contextmanager
def _stirred() -> Iterator[Any]:
    """The global generators in a state that no seed gives again, so that a pass that seeds them shows; then as before."""
    before = random.getstate(), np.random.get_state(), torch.default_generator.get_state()
    try:
        random.seed(random.random() + 0.5)
        np.random.seed(random.getrandbits(32))
        torch.default_generator.manual_seed(random.getrandbits(60))
        yield _global_generators()
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.default_generator.set_state(before[2])


def _global_generators() -> Any:
    """States that all threads of a process share."""
    numpy = [each.tolist() if isinstance(each, np.ndarray) else each for each in np.random.get_state()]
    return random.getstate(), numpy, torch.default_generator.get_state().tolist()
