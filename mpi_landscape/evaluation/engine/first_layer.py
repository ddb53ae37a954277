"""Linear layers whose input is the data alone: affine in the point, so computed once for all points of a tile.

With W(α, β) = W + α D + β E the layer's output for a batch x is x Wᵀ + α x Dᵀ + β x Eᵀ. Three products then serve every
point; what is left of a point is the sum of three tensors of the layer's output size. For a linear model over 3,072
inputs that is all there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.engine.dataflow import Flow, steady
from mpi_landscape.evaluation.engine.description import Engine, Probe, Step
from mpi_landscape.evaluation.engine.folding import FOLDED, is_plain, shared_parameters
from mpi_landscape.evaluation.engine.graphs import GRAPHED
from mpi_landscape.evaluation.engine.provenance import Source
from mpi_landscape.evaluation.engine.watching import watched
from mpi_landscape.evaluation.vectors import Rows, Vectors
from mpi_landscape.geometry.layout import Layout

# A product with fewer inputs costs no more than reading three results and adding them.
LEAST_INPUTS = 64


@dataclass(slots=True)
class _State:
    """Of a first layer; apart from it, since a module's own attributes cost more to set than the layer's sums."""

    products: list[Tensor] | None = None
    shape: torch.Size | None = None
    coordinates: Sequence[float] = ()
    is_called: bool = False


class FirstLayer(nn.Module):
    """A linear layer at any point of the plane.

    Args:
        weights: (out, in) at the center, then one per direction.
        biases: (out,) likewise; None where there is none.
        lower: Type of 16 bits for the products, which are summed in 32; None for that of the weights.
        name: What it is called in the network.

    Example:
        >>> layer = FirstLayer([torch.tensor([[1.0, 2.0]]), torch.tensor([[10.0, 0.0]])], [None, None])
        >>> layer.begin()
        >>> for alpha in (0.0, 0.5):
        ...     layer.move([alpha])
        ...     layer(torch.tensor([[3.0, 4.0]])).tolist()
        [[11.0]]
        [[26.0]]
    """

    def __init__(
        self,
        weights: Sequence[Tensor],
        biases: Sequence[Tensor | None],
        lower: torch.dtype | None = None,
        name: str = "layer",
    ) -> None:
        super().__init__()
        self._name = name
        self._rows = [
            (weight.to(lower or weight.dtype), None if bias is None else bias.to(lower or bias.dtype))
            for weight, bias in zip(weights, biases, strict=True)
        ]
        self._sum_type = weights[0].dtype
        self._state = _State()

    def begin(self) -> None:
        """The next input is that of another batch."""
        self._state.products, self._state.is_called = None, False

    def move(self, coordinates: Sequence[float]) -> None:
        """Go to a point; one coordinate per direction, missing ones are zero."""
        self._state.coordinates, self._state.is_called = coordinates, False

    def forward(self, inputs: Tensor) -> Tensor:
        """The layer's output (..., out) for inputs (..., in), those of the first call since `begin`.

        Raises:
            LandscapeError: It is called again at one point, as it was not in the trial, or with inputs of another shape.
        """
        state = self._state
        if state.is_called or (state.products is not None and state.shape != inputs.shape):
            raise LandscapeError(
                f"model: {self._name}, which is computed once per tile, was called in another way than in the trial; "
                f"valid is compute.engine without first_layer"
            )
        state.is_called = True
        if state.products is None:
            state.shape = inputs.shape
            state.products = [
                F.linear(inputs, weight, bias).to(self._sum_type) for weight, bias in self._rows
            ]
        # A new tensor at every point: what follows may work in place.
        result = state.products[0].clone()
        for coordinate, product in zip(state.coordinates, state.products[1:], strict=False):
            if coordinate != 0:
                result.add_(product, alpha=coordinate)
        return result.to(inputs.dtype)


def find_first_layers(
    network: nn.Module,
    elsewhere: Callable[[], nn.Module],
    run: Callable[[nn.Module], Any],
    watch: Callable[[Sequence[str]], Flow],
) -> tuple[str, ...]:
    """Names of linear layers that get the same input wherever the parameters are.

    Each is called once in a pass, with what no parameter enters, and nothing but that call uses its parameters.

    Args:
        network: In evaluation mode.
        elsewhere: Gives a network that differs from the first in every parameter. Its inputs must be the same, too: so
            shows what goes past torch.
        run: (network) -> the losses.
        watch: (names of layers) -> what is seen of their calls.
    """
    shared = shared_parameters(network)
    candidates = [
        name
        for name, module in network.named_modules()
        if name
        and type(module) is nn.Linear
        and module.in_features >= LEAST_INPUTS
        and is_plain(module, shared)
    ]
    if not candidates:
        return ()
    flow = watch(candidates)
    free = [
        name
        for name, call in flow.once(candidates).items()
        if call.source < Source.PARAMETERS and flow.is_alone(name)
    ]
    if not free:
        return ()
    seen = [_inputs(free, network, run), _inputs(free, elsewhere(), run)]
    return tuple(
        name
        for name in free
        if len(seen[0].get(name, [])) == len(seen[1].get(name, [])) == 1
        and torch.equal(seen[0][name][0], seen[1][name][0])
    )


def _inputs(
    names: Sequence[str], network: nn.Module, run: Callable[[nn.Module], Any]
) -> dict[str, list[Tensor]]:
    """What goes into these layers in one pass."""
    found: dict[str, list[Tensor]] = {}

    def keep(name: str, _: nn.Module, arguments: tuple[Any, ...]) -> None:
        if len(arguments) == 1 and isinstance(arguments[0], Tensor):
            found.setdefault(name, []).append(arguments[0].detach().clone())

    hooks = [network.get_submodule(name).register_forward_pre_hook(partial(keep, name)) for name in names]
    watched(hooks, lambda: run(network))
    return found


def install(
    names: Sequence[str], network: nn.Module, vectors: Vectors, lower: torch.dtype | None
) -> nn.Module:
    """Put first layers, which follow the vectors from now on, in place of the linear ones of these names."""
    rows = [vectors.rows.layout.views(vector) for vector in (vectors.rows.center, *vectors.rows.directions)]
    for name in names:
        layer = FirstLayer(
            [views[f"{name}.weight"] for views in rows],
            [views.get(f"{name}.bias") for views in rows],
            lower,
            name,
        )
        network.set_submodule(name, layer)
        vectors.followers.append(layer)
    return network


def other_ranges(layout: Layout, names: Sequence[str]) -> list[tuple[int, int]]:
    """The parts of a flat vector that still move, all but the first layers' entries, as few (start, stop) as there are."""
    fixed = {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}
    runs = [(kept, [*run]) for kept, run in groupby(layout.entries, lambda entry: entry.name not in fixed)]
    return [(run[0].offset, run[-1].stop) for kept, run in runs if kept]


def _proposal(engine: Engine, probe: Probe) -> tuple[str, ...] | None:
    if engine.value(GRAPHED):  # its products are made anew for every batch, at places of their own
        return None
    names = {entry.name for entry in probe.layout.entries}
    # A bias that took a normalization's place in the vectors has another name there.
    biases = {layer for layer, _ in engine.value(FOLDED) if f"{layer}.bias" not in names}
    found = find_first_layers(probe.network, probe.elsewhere, probe.run, partial(steady, probe))
    return tuple(name for name in found if name not in biases) or None


def _on_vectors(names: Sequence[str], _: nn.Module, rows: Rows) -> Rows:
    return replace(rows, ranges=tuple(other_ranges(rows.layout, names)))


FIRST_LAYER = Step(
    name="first_layer",
    proposal=_proposal,
    words=lambda names: f"first layer ({', '.join(names)}) once per tile",
    read=lambda names: tuple(map(str, names)),
    on_vectors=_on_vectors,
    on_network=install,
    shares_points=True,
)
