"""Convolutions that do what follows them: an activation, or the sum with a shortcut and then the activation.

On a CPU an activation reads and writes again what a convolution has just written: a fifth of a ResNet-56's time in float32,
and nearly half in bfloat16. oneDNN's convolutions do both in one go. The operators are those that torch's own compiler
calls; here they are called without a compiler. The network is traced by torch.fx.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from mpi_landscape.evaluation.calling import is_out_of_memory
from mpi_landscape.evaluation.engine.channels_last import CHANNELS_LAST
from mpi_landscape.evaluation.engine.dataflow import moving_tensors, steady
from mpi_landscape.evaluation.engine.description import Engine, Probe, Step
from mpi_landscape.evaluation.engine.tracing import check_trace, memory_of, traced, written_by

# Name in oneDNN's operators and their scalars, by module class; and of functions and methods.
_MODULES: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.Hardswish: ("hardswish", []),
    nn.SiLU: ("swish", []),
}
# Those that take no scalars, which alone follow a sum.
_APART: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "hardswish": F.hardswish, "swish": F.silu}
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
        # oneDNN adds in convolutions of one group alone. torch goes another way with others, and has none in 16 bits.
        if images.dtype.itemsize < 4 and c.groups > 1:
            return self._apart(images, other)
        try:
            return self._with_sum(images, other)
        except RuntimeError as error:
            # Likewise of images whose order of numbers it does not take; nothing has been written then.
            if images.dtype.itemsize >= 4 or is_out_of_memory(error):
                raise
            return self._apart(images, other)

    def _with_sum(self, images: Tensor, other: Tensor) -> Tensor:
        c = self.convolution
        geometry = (c.padding, c.stride, c.dilation, c.groups)
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

    def _apart(self, images: Tensor, other: Tensor) -> Tensor:
        """One after the other, as the network itself does it."""
        summed: Tensor = self.convolution(images) + other
        return summed if self._activation == "none" else _APART[self._activation](summed)


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
    graph = traced(network)
    modules = dict(graph.named_modules())
    for node in list(graph.graph.nodes):
        if node.op == "call_module" and type(modules[node.target]) is nn.Identity:
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
    for number, fusion in enumerate(_fusions(graph.graph, modules)):
        _apply(graph, fusion, modules, f"fused_{number}")
    graph.recompile()
    return graph


def _fusions(graph: fx.Graph, modules: dict[str, nn.Module]) -> list[_Fusion]:
    found: list[_Fusion] = []
    taken: set[fx.Node] = set()
    for node in graph.nodes:
        if _is_called_convolution(node, modules):
            found.append(_fusion(node, modules, taken))
    order = _Order(graph, modules, found)
    kept = [each if order.is_safe(each) else _Fusion(each.convolution, each.convolution) for each in found]
    fresh = {fusion.last for fusion in kept}
    for fusion in kept:
        # Convolutions read it and keep no view of it; any other user might.
        fusion.onto = fusion.other in fresh and order.is_last_use(fusion)
    return [fusion for fusion in kept if fusion.last is not fusion.convolution]


def _fusion(node: fx.Node, modules: dict[str, nn.Module], taken: set[fx.Node]) -> _Fusion:
    """A convolution with what only it is followed by; the sums that others have taken are left out."""
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
    return fusion


class _Order:
    """When what is done once convolutions wait for what follows them, and what lies where."""

    def __init__(self, graph: fx.Graph, modules: dict[str, nn.Module], fusions: Sequence[_Fusion]) -> None:
        self._nodes = list(graph.nodes)
        self._place = {node: index for index, node in enumerate(self._nodes)}
        self._memory = memory_of(graph, modules)
        self._writes = {node: written_by(node, modules) for node in self._nodes}
        self._modules = modules
        self._done = dict(self._place)
        for fusion in fusions:
            for node in filter(None, (fusion.convolution, fusion.sum)):
                self._done[node] = self._place[fusion.last]

    def is_safe(self, fusion: _Fusion) -> bool:
        """Whether a convolution reads the same when it is done with what follows, and nobody misses a sum in place."""
        convolution, last = fusion.convolution, fusion.last
        read = self._memory[convolution.all_input_nodes[0]]
        if fusion.other is not None:
            read = read | self._memory[fusion.other]
        parts = (convolution, fusion.sum, last)
        for node in self._nodes[self._place[convolution] + 1 : self._place[last]]:
            if node not in parts and any(self._memory[each] & read for each in self._writes[node]):
                return False
        return fusion.sum is None or fusion.other not in self._writes[fusion.sum] or self._is_given_up(fusion)

    def _is_given_up(self, fusion: _Fusion) -> bool:
        """Whether nobody looks, after a sum in place, at the memory that it was to change."""
        roots = self._memory[fusion.other]
        if any(root.op in ("placeholder", "get_attr") for root in roots):
            return False
        assert fusion.sum is not None
        place = self._place[fusion.sum]
        return all(
            self._place[user] <= place
            for node in self._nodes[:place]
            if self._memory[node] & roots
            for user in node.users
        )

    def is_last_use(self, fusion: _Fusion) -> bool:
        """Whether all others that read the other summand are convolutions that are done before."""
        return all(
            user is fusion.sum
            or (_is_called_convolution(user, self._modules) and self._done[user] < self._place[fusion.last])
            for user in fusion.other.users
        )


def _apply(graph: fx.GraphModule, fusion: _Fusion, modules: dict[str, nn.Module], name: str) -> None:
    convolution = modules[str(fusion.convolution.target)]
    assert isinstance(convolution, nn.Conv2d)
    graph.add_submodule(
        name, FusedConvolution(convolution, fusion.activation, fusion.scalars, onto=fusion.onto)
    )
    other = fusion.other
    inputs = (fusion.convolution.args[0],) if other is None else (fusion.convolution.args[0], other)
    with graph.graph.inserting_after(fusion.last):
        replacement = graph.graph.call_module(name, inputs)
    fusion.last.replace_all_uses_with(replacement)
    for node in dict.fromkeys((fusion.last, fusion.sum, fusion.convolution)):
        if node is not None:
            graph.graph.erase_node(node)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_called_convolution(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    called = node.op == "call_module" and len(node.args) == 1 and not node.kwargs
    return called and _is_convolution(modules[str(node.target)])


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
    if probe.device.type != "cpu" or probe.dtype != torch.float32 or not engine.value(CHANNELS_LAST):
        return None
    check_trace(steady(probe), traced(probe.network), probe.run, moving_tensors(probe))
    return True


FUSED = Step(
    name="fused",
    proposal=_proposal,
    words=lambda _: "convolutions fused with what follows",
    on_network=lambda _, network, *__: fuse(network),
)
