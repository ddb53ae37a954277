"""Linear layers on rows of tokens by oneDNN, with weights that lie as its kernels read them, packed once for each point.

torch multiplies float32 by MKL. On one AMD core (Zen 4, AVX-512) that reached 80 to 100 GFLOP/s for the shapes of transformers
and oneDNN 102 to 109; with widths of 48 to 128 oneDNN was 1.1 to 1.6 times as fast. MKL also needs a copy of the bias in the
result first, which oneDNN adds on its way. Weights that are not packed are turned around in every call, which takes up to half
of that. What a kernel can do besides, an activation or a sum with a shortcut, made no more than 1 % of a vision transformer: it
saves the reading of what lies in the cache.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mpi_landscape.evaluation.engine.dataflow import Flow, moving_tensors, observed
from mpi_landscape.evaluation.engine.description import Engine, Probe, Step
from mpi_landscape.evaluation.engine.first_layer import FIRST_LAYER
from mpi_landscape.evaluation.engine.folding import is_plain, shared_parameters
from mpi_landscape.evaluation.engine.observing import Call
from mpi_landscape.evaluation.vectors import Vectors

# A smaller weight gains nothing: a GPT-2 with widths of 64 took as long as before.
LEAST_WEIGHT = 2**15
# Axes of an input with many rows for each example. A layer of one row for each is soon done, and a weight is packed at every
# point however few rows there are.
_LEAST_AXES = 3
# Kernels that oneDNN has for processors of these vectors; on others torch's own are those that are tuned.
_CAPABILITIES = ("AVX2", "AVX512")


class PackedWeights:
    """The weights of linear layers as oneDNN's kernels read them, which follow the point.

    One for all replicas that follow the same vectors: their threads only read it.

    Args:
        weights: (out, in) each, by layer: views of the point.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self._weights = weights
        self.packed: dict[str, Tensor] = {}
        self.move(())

    def begin(self) -> None:
        """The next pass is one over another batch, which changes no weight."""

    def move(self, _: Sequence[float]) -> None:
        """The point has moved."""
        for name, weight in self._weights.items():
            self.packed[name] = packed_weight(weight)


def packed_weight(weight: Tensor) -> Tensor:
    """A weight (out, in) for `packed_linear`, as a copy that only oneDNN can read."""
    # For no number of rows in particular: batches of another length have others.
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight)
    return packed


def packed_linear(inputs: Tensor, packed: Tensor, bias: Tensor | None) -> Tensor:
    """A linear layer's output (..., out) for inputs (..., in), without a gradient.

    Example:
        >>> packed = packed_weight(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        >>> packed_linear(torch.tensor([[1.0, 10.0]]), packed, torch.tensor([0.5, 0.0])).tolist()
        [[21.5, 43.0]]
    """
    result: Tensor = torch.ops.mkldnn._linear_pointwise(inputs, packed, bias, "none", [], "")
    return result


def find_linear_layers(network: nn.Module, flow: Flow) -> tuple[str, ...]:
    """Names of linear layers that get many rows for each example, and whose weights nothing but their calls uses.

    Args:
        network: In evaluation mode.
        flow: What was seen of a pass, with the calls of `candidates`.
    """
    return tuple(
        name
        for name in candidates(network)
        if flow.calls.get(name) and all(map(_has_many_rows, flow.calls[name])) and flow.is_alone(name)
    )


def candidates(network: nn.Module) -> list[str]:
    """Linear layers that do what their class does, with a weight of their own that is worth it.

    No subclass: what it does in `forward` is its own; so are a parametrization, which changes the class, and a hook.
    """
    shared = shared_parameters(network)
    found = []
    for name, module in network.named_modules():
        if name and (type(module) is nn.Linear or _is_transposed(module)) and is_plain(module, shared):
            weight = module._parameters.get("weight")
            if weight is not None and weight.numel() >= LEAST_WEIGHT:
                found.append(name)
    return found


def install(names: Sequence[str], network: nn.Module, vectors: Vectors) -> nn.Module:
    """Let the layers of these names compute with packed weights, which follow the vectors from now on."""
    layers = {name: network.get_submodule(name) for name in names}
    packs = next((each for each in vectors.followers if isinstance(each, PackedWeights)), None)
    if packs is None:
        packs = PackedWeights({name: _rows(layer) for name, layer in layers.items()})
        vectors.followers.append(packs)
    for name, layer in layers.items():
        # The module stays what it is for whoever looks at its class or its weight.
        vars(layer)["forward"] = _forward(layer, name, packs)
    return network


def _forward(layer: nn.Module, name: str, packs: PackedWeights) -> Callable[[Tensor], Tensor]:
    """What a layer does from now on.

    The layer itself computes where a gradient or another type is asked for, and when someone else has written its weight: a
    pass over other examples than those of the trial may go another way.
    """
    plain, weight, bias = layer.forward, layer._parameters["weight"], layer._parameters["bias"]
    assert weight is not None
    version, kind = weight._version, weight.dtype
    # Weakly: what torch.fx leaves in circles would keep the packed weights, which belong to the vectors.
    packs_of = weakref.ref(packs)

    def forward(inputs: Tensor) -> Tensor:
        current = packs_of()
        if (
            current is None
            or torch.is_grad_enabled()
            or torch.is_autocast_enabled("cpu")
            or inputs.dtype != kind
            or weight._version != version
        ):
            result: Tensor = plain(inputs)
            return result
        return packed_linear(inputs, current.packed[name], bias)

    return forward


def _has_many_rows(call: Call) -> bool:
    return call.plain and call.input is not None and len(call.input.shape) >= _LEAST_AXES


def _rows(layer: nn.Module) -> Tensor:
    """(out, in), in the layer's own memory."""
    weight = layer._parameters["weight"]
    assert weight is not None
    return weight.detach().t() if _is_transposed(layer) else weight.detach()


def _is_transposed(module: nn.Module) -> bool:
    """Whether it is the linear layer of transformers with a weight of (in, out)."""
    # By name: nothing here needs the package.
    kind = type(module)
    return (kind.__module__, kind.__qualname__) == ("transformers.pytorch_utils", "Conv1D")


def is_offered() -> bool:
    """Whether oneDNN multiplies here, with kernels of its own for this processor."""
    operators = torch.ops.mkldnn
    return (
        bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
        and torch.backends.cpu.get_cpu_capability() in _CAPABILITIES
        and all(hasattr(operators, name) for name in ("_linear_pointwise", "_reorder_linear_weight"))
    )


def _proposal(engine: Engine, probe: Probe) -> tuple[str, ...] | None:
    # oneDNN has no float64 and no gradients.
    if probe.device.type != "cpu" or probe.dtype != torch.float32 or probe.gradients or not is_offered():
        return None
    # Where points share what is done of a batch, the network moves for every batch, too often for packing.
    if engine.value(FIRST_LAYER):
        return None
    names = candidates(probe.network)
    if not names:
        return None
    # Not `steady`: each layer does what it did, whichever way a pass goes.
    flow = observed(probe.network, probe.run, moving=moving_tensors(probe), layers=names)
    return find_linear_layers(probe.network, flow) or None


PACKED = Step(
    name="packed",
    proposal=_proposal,
    words=lambda names: f"{len(names)} linear layers of packed weights",
    read=lambda names: tuple(map(str, names)),
    on_network=lambda names, network, vectors, _: install(names, network, vectors),
)
