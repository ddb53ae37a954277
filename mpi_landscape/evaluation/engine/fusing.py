"""Convolutions that do what follows them: an activation, or the sum with a shortcut and then the activation.

On a CPU an activation reads and writes again what a convolution has just written: a fifth of a ResNet-56's time in float32,
and nearly half in bfloat16. oneDNN's convolutions do both in one go. The operators are those that torch's own compiler
calls; here they are called without a compiler. The network is traced by torch.fx.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from mpi_landscape.evaluation.engine.channels_last import CHANNELS_LAST
from mpi_landscape.evaluation.engine.description import Engine, Probe, Step

# Name in oneDNN's operators and their scalars, by module class; and of functions and methods.
_MODULES: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.Hardswish: ("hardswish", []),
    nn.SiLU: ("swish", []),
}
_FUNCTIONS = (F.relu, torch.relu, torch.relu_)
_METHODS = ("relu", "relu_")
_SUMS = (operator.add, operator.iadd, torch.add)


class FusedConvolution(nn.Module):
    """A convolution with what follows it.

    Args:
        convolution: Whose weight and bias are used.
        activation: oneDNN's name of it; `none` for none.
        scalars: Of the activation.
        onto: Whether the second input, added before the activation, may be overwritten with the result.
    """

    def __init__(self, convolution: nn.Conv2d, activation: str, scalars: list[float], *, onto: bool) -> None:
        super().__init__()
        self.convolution = convolution
        self._activation, self._scalars = activation, scalars
        self._onto = onto

    def forward(self, images: Tensor, other: Tensor | None = None) -> Tensor:
        """The convolution of `images`, plus `other`, then the activation."""
        c = self.convolution
        geometry = (c.padding, c.stride, c.dilation, c.groups)
        if other is None:
            result: Tensor = torch.ops.mkldnn._convolution_pointwise(
                images, c.weight, c.bias, *geometry, self._activation, self._scalars, ""
            )
            return result
        second = self._activation if self._activation != "none" else None
        if self._onto:
            in_place: Tensor = torch.ops.mkldnn._convolution_pointwise_.binary(
                other, images, c.weight, c.bias, *geometry, "add", 1.0, second, [], None
            )
            return in_place
        summed: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
            images, other, c.weight, c.bias, *geometry, "add", 1.0, second, [], None
        )
        return summed


@dataclass
class _Fusion:
    """One convolution of a graph, and the operations that it takes over."""

    convolution: fx.Node
    last: fx.Node
    activation: str = "none"
    scalars: list[float] = field(default_factory=list)
    sum: fx.Node | None = None
    onto: bool = False

    @property
    def other(self) -> Any:
        """The other summand, as it is now: it may have been fused itself in between."""
        return None if self.sum is None else next(arg for arg in self.sum.args if arg is not self.convolution)


def fuse(network: nn.Module) -> nn.Module:
    """A network of the same modules, in evaluation mode on a CPU, in which convolutions do what follows them.

    Raises:
        Exception: torch.fx cannot trace the network, or oneDNN is not there.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        raise RuntimeError("oneDNN is not available")
    traced = fx.symbolic_trace(network)
    modules = dict(traced.named_modules())
    for node in list(traced.graph.nodes):
        if node.op == "call_module" and type(modules[node.target]) is nn.Identity:
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    for number, fusion in enumerate(_fusions(traced.graph, modules)):
        _apply(traced, fusion, modules, f"fused_{number}")
    traced.recompile()
    return traced


def _fusions(graph: fx.Graph, modules: dict[str, nn.Module]) -> list[_Fusion]:
    place = {node: index for index, node in enumerate(graph.nodes)}
    found: list[_Fusion] = []
    taken: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op != "call_module" or not _is_convolution(modules[node.target]):
            continue
        fusion = _Fusion(convolution=node, last=node)
        following = _only_user(node)
        if following is not None and following not in taken and _is_sum(following):
            first, second = following.args
            if isinstance(first, fx.Node) and isinstance(second, fx.Node) and first is not second:
                taken.add(following)
                fusion.sum = fusion.last = following
                following = _only_user(following)
        name = None if following is None else _activation(following, modules)
        # oneDNN's sum takes no scalars for what comes after it.
        if following is not None and name is not None and not (fusion.sum is not None and name[1]):
            fusion.activation, fusion.scalars = name
            fusion.last = following
        found.append(fusion)
    fresh = {fusion.last for fusion in found}
    for fusion in found:
        other = fusion.other
        # Convolutions read it and keep no view of it; any other user might.
        fusion.onto = other in fresh and all(
            user is fusion.sum or (place[user] < place[fusion.last] and _reads(user, modules))
            for user in other.users
        )
    return [fusion for fusion in found if fusion.last is not fusion.convolution]


def _apply(traced: fx.GraphModule, fusion: _Fusion, modules: dict[str, nn.Module], name: str) -> None:
    convolution = modules[str(fusion.convolution.target)]
    assert isinstance(convolution, nn.Conv2d)
    traced.add_submodule(
        name, FusedConvolution(convolution, fusion.activation, fusion.scalars, onto=fusion.onto)
    )
    other = fusion.other
    inputs = (fusion.convolution.args[0],) if other is None else (fusion.convolution.args[0], other)
    with traced.graph.inserting_after(fusion.last):
        replacement = traced.graph.call_module(name, inputs)
    fusion.last.replace_all_uses_with(replacement)
    for node in dict.fromkeys((fusion.last, fusion.sum, fusion.convolution)):
        if node is not None:
            traced.graph.erase_node(node)


def _reads(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    return node.op == "call_module" and _is_convolution(modules[str(node.target)])


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_convolution(module: nn.Module) -> bool:
    return (
        type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    )


def _is_sum(node: fx.Node) -> bool:
    return node.op == "call_function" and node.target in _SUMS and len(node.args) == 2 and not node.kwargs


def _activation(node: fx.Node, modules: dict[str, Any]) -> tuple[str, list[float]] | None:
    if node.op == "call_module":
        return _MODULES.get(type(modules[str(node.target)]))
    is_relu = (node.op == "call_function" and node.target in _FUNCTIONS) or (
        node.op == "call_method" and node.target in _METHODS
    )
    return ("relu", []) if is_relu else None


def _proposal(engine: Engine, probe: Probe) -> bool | None:
    # oneDNN's kernels, which have no float64.
    fits = probe.device.type == "cpu" and probe.dtype == torch.float32
    return True if fits and engine.value(CHANNELS_LAST) else None


FUSED = Step(
    name="fused",
    proposal=_proposal,
    words=lambda _: "convolutions fused with what follows",
    on_network=lambda _, network, *__: fuse(network),
)
