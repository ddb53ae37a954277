"""A network as a graph of operations, made by torch.fx, and which of its nodes may lie in the same memory.

A trace follows the symbols that it puts in; what a network does with anything else happens while it is traced, once, and stays
as it was then. And `x += y` becomes `x = x + y`, which whoever else has x misses. So a graph counts only where its operations
are those of the network itself, one by one, with the same results going into them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.engine.dataflow import Flow, observed

# Modules whose result lies in memory of its own.
_FRESH = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._NormBase,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.Linear,
)
_IN_PLACE = frozenset(
    getattr(operator, name)
    for name in ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow", "imatmul", "setitem")
) | {operator.iand, operator.ior, operator.ixor, operator.ilshift, operator.irshift}

Memory = dict[fx.Node, frozenset[fx.Node]]


def traced(network: nn.Module) -> fx.GraphModule:
    """The graph of a network, with its own modules and parameters.

    Raises:
        LandscapeError: A hook, or a `forward` of a module's own, would be lost in the graph.
        Exception: torch.fx cannot trace the network.
    """
    for name, module in network.named_modules():
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            raise LandscapeError(f"{name or 'the network'} has a hook or a forward of its own")
    return fx.symbolic_trace(network)


def check_trace(
    plain: Flow, graph: nn.Module, run: Callable[[nn.Module], Any], moving: Mapping[str, Tensor]
) -> None:
    """Check that a graph does the operations of the network, one by one, on the same parameters and results.

    Raises:
        LandscapeError: It does not, and says where.
    """
    found = [each.text for each in observed(graph, run, moving=moving).operations]
    wanted = [each.text for each in plain.operations]
    for number, (one, other) in enumerate(zip(found, wanted, strict=False), start=1):
        if one != other:
            names = (one.partition("(")[0], other.partition("(")[0])
            raise LandscapeError(
                f"operation {number} of the traced network is {names[0]}, and of the network {names[1]} of other tensors"
                if names[0] == names[1]
                else f"operation {number} of the traced network is {names[0]}, and of the network {names[1]}"
            )
    if len(found) != len(wanted):
        raise LandscapeError(
            f"the traced network does {len(found)} operations, and the network {len(wanted)}"
        )


def memory_of(graph: fx.Graph, modules: Mapping[str, Any]) -> Memory:
    """For each node, the nodes in whose memory its result may lie; what is not known to be new may be any input's."""
    found: Memory = {}
    for node in graph.nodes:
        fresh = node.op == "call_module" and isinstance(modules[node.target], _FRESH)
        inherited = frozenset[fx.Node]().union(*(found[each] for each in node.all_input_nodes))
        found[node] = frozenset((node,)) if fresh or not inherited else inherited
    return found


def written_by(node: fx.Node, modules: Mapping[str, Any]) -> tuple[fx.Node, ...]:
    """The nodes whose memory a node writes in place."""
    named = node.kwargs.get("out")
    outputs = (named,) if isinstance(named, fx.Node) else ()
    first = node.args[0] if node.args else node.kwargs.get("input")
    if not isinstance(first, fx.Node):
        return outputs
    if node.op == "call_module":
        writes = bool(getattr(modules[str(node.target)], "inplace", False))
    else:
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        asked = node.kwargs.get("inplace", False) or True in [
            arg for arg in node.args if isinstance(arg, bool)
        ]
        named_so = name.startswith("__i") or name == "__setitem__" or (name[-1:] == "_" and name[-2:] != "__")
        writes = node.op in ("call_function", "call_method") and (
            node.target in _IN_PLACE or named_so or bool(asked)
        )
    return (first, *outputs) if writes else outputs
