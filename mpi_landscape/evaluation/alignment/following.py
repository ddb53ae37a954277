"""One pass of a network, followed operation by operation: which axes of which tensors have one order.

Tensors are recognized by the memory in which they lie, so that views, writes in place and what is reached past its attribute
count. Every tensor of the pass keeps what is known of its axes; views share it, so what is written into one is found out of all.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.alignment.axes import Axis, fixed, free, freeze, length, resolved, unify
from mpi_landscape.evaluation.alignment.operation import Axes, Operation
from mpi_landscape.evaluation.alignment.rules import HANDING_ON, Rule, rule_of
from mpi_landscape.evaluation.engine.observing import where

DATA, OUTPUT = "an input", "an output"
_HERE = str(Path(__file__).parent)
_Place = tuple[Any, ...]


@dataclass
class _Memory:
    # Keeps the address from being given to another memory, and not the memory.
    kept: Any
    # First byte, the one after the last, and axes of each tensor that lies in it.
    tensors: dict[_Place, tuple[int, int, Axes]] = field(default_factory=dict)


class Known:
    """What is known of the axes of all tensors of a pass.

    Args:
        parameters: Those of the network, by name.
        buffers: Likewise. They stay in order, but for running statistics.

    Attributes:
        entered: The axes of the parameters and buffers that were used, by name.
        used: Axes of what went into operations that do more than to hand numbers on.
    """

    def __init__(self, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor]) -> None:
        self._memories: dict[Any, _Memory] = {}
        self._state: dict[_Place, list[str]] = {}
        self._buffers: dict[_Place, str] = {}
        self.entered: dict[str, Axes] = {}
        self.used: list[Axis] = []
        for name, tensor in parameters.items():
            if _place(tensor) not in self._state:
                self._keep(tensor, [free(size) for size in tensor.shape])
            self._state.setdefault(_place(tensor), []).append(name)
        for name, tensor in buffers.items():
            self._state.setdefault(_place(tensor), []).append(name)
            self._buffers.setdefault(_place(tensor), name)

    def of(self, tensor: Tensor, *, statistic: bool = False) -> Axes:
        """The axes of a tensor; what no operation has made is data, and stays in order."""
        place = _place(tensor)
        memory = self._memory(tensor)
        if place not in memory.tensors:
            name = self._buffers.get(place)
            if name is not None and (statistic or name.rpartition(".")[2].startswith("running_")):
                axes = [free(size) for size in tensor.shape]
            else:
                axes = [fixed(size, f"the buffer {name}" if name else DATA) for size in tensor.shape]
                self._freeze_beside(tensor, memory)
            self._keep(tensor, axes)
        axes = memory.tensors[place][2]
        for each in self._state.get(place, ()):
            self.entered.setdefault(each, axes)
        return axes

    def has(self, tensor: Tensor) -> bool:
        """Whether a tensor is known already."""
        place = _place(tensor)
        return place[0] in self._memories and place in self._memories[place[0]].tensors

    def made(self, tensor: Tensor, axes: Axes, reason: str) -> None:
        """A tensor is what an operation gave: a new one, or one that was there and holds this from now on."""
        place = _place(tensor)
        known = self._memory(tensor).tensors.get(place)
        if known is None:
            self._keep(tensor, axes)
            return
        for before, now in zip(known[2], axes, strict=True):
            unify(before, now, reason)

    def leave_unused(self) -> None:
        """What was not used, such as positions beyond those of the data, may have an order for others: it stays in it."""
        used = {units for axis in self.used for block in resolved(axis) for units in block}
        for axes in self.entered.values():
            for block in (block for axis in axes for block in resolved(axis)):
                freeze((tuple(units for units in block if units not in used),), "a pass over other data")

    def _freeze_beside(self, tensor: Tensor, memory: _Memory) -> None:
        """A tensor that no operation made may be another view of one that is known."""
        start, stop = _extent(tensor)
        for first, last, axes in memory.tensors.values():
            if first < stop and start < last:
                for axis in axes:
                    freeze(axis, f"another view of its memory at {where(_HERE)}")

    def _keep(self, tensor: Tensor, axes: Axes) -> None:
        self._memory(tensor).tensors[_place(tensor)] = (*_extent(tensor), axes)

    def _memory(self, tensor: Tensor) -> _Memory:
        key = _place(tensor)[0]
        if key not in self._memories:
            storage = tensor.untyped_storage() if _is_plain(tensor) else None
            kept = tensor if storage is None else StorageWeakRef(storage)  # type: ignore[no-untyped-call]
            self._memories[key] = _Memory(kept)
        return self._memories[key]


def followed(
    network: nn.Module, run: Callable[[nn.Module, Any], Any], batches: Iterable[Any]
) -> dict[str, Axes]:
    """The axes of the parameters and buffers that passes use, by all of their names: of all passes together.

    Args:
        network: In evaluation mode.
        run: Calls the network and its loss on some examples.
        batches: The examples of each pass.

    Raises:
        LandscapeError: What the network gives is no tensor with memory of its own.
        Exception: What `run` raises.
    """
    known = Known(
        dict(network.named_parameters(remove_duplicate=False)),
        dict(network.named_buffers(remove_duplicate=False)),
    )
    mode = _Following(known)

    def outputs(_: nn.Module, __: Any, output: Any) -> None:
        mode.leave_in_order(output)

    hook = network.register_forward_hook(outputs)
    try:
        for batch in batches:
            with torch.no_grad(), _one_operation_at_a_time(), mode:
                result = run(network, batch)
            mode.leave_in_order(result)
    finally:
        hook.remove()
    known.leave_unused()
    return known.entered


class _Following(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation that reaches a kernel."""

    def __init__(self, known: Known) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = known

    def leave_in_order(self, nest: Any) -> None:
        """What leaves the network is in the order of the classes."""
        for leaf in tree_leaves(nest):
            if isinstance(leaf, Tensor):
                if not self._known.has(leaf) and not _is_plain(leaf):
                    raise LandscapeError("what leaves it, as within vmap, cannot be followed")
                for axis in self._known.of(leaf):
                    freeze(axis, OUTPUT)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, torch._ops.OpOverload):
            return func(*args, **kwargs)
        # In inference mode some come here that are made of others.
        with self:
            result = func.decompose(*args, **kwargs)
        if result is NotImplemented:
            # What changes the shape of a tensor in place leaves one of the old shape here.
            before = (args[0].detach(), *args[1:]) if torch.Tag.inplace_view in func.tags else args
            result = func(*args, **kwargs)
            self._follow(func, before, kwargs, result)
        return result

    def _follow(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        known = self._known
        name = func._schema.name.rpartition("::")[2].rstrip("_")
        named = dict(zip((each.name for each in func._schema.arguments), args, strict=False))
        results = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        op = Operation(
            name=name,
            arguments={**named, **kwargs},
            results=results,
            reason=f"{name} at {where(_HERE)}",
            known=known.of,
            statistics=lambda tensor: known.of(tensor, statistic=True),
        )
        rule = rule_of(func, name)
        if rule not in HANDING_ON:
            known.used += [axis for each in op.tensors for axis in known.of(each)]
        for each, axes in zip(results, _by(rule, op), strict=True):
            known.made(each, axes, op.reason)


def _by(rule: Rule | None, op: Operation) -> list[Axes]:
    """The axes of the results of an operation; without a rule that fits, all that enters it stays in order."""
    in_order = [[fixed(size, op.reason) for size in each.shape] for each in op.results]
    if rule is not None and op.results:
        try:
            found = [axes or known for axes, known in zip(rule(op), in_order, strict=True)]
        except (
            Exception
        ):  # Called in a way that the rule does not know: what it has tied by then costs nothing but freedom.
            found = []
        if found and all(
            [length(axis) for axis in axes] == list(each.shape)
            for axes, each in zip(found, op.results, strict=True)
        ):
            return found
    for tensor in op.tensors:
        op.fix(*op.known(tensor))
    return in_order


@contextmanager
def _one_operation_at_a_time() -> Iterator[None]:
    """Without the kernels that do a whole layer at once, of which there are no rules."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings for other devices, which the flags set as they are
            with torch.backends.mkldnn.flags(enabled=False):
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _is_plain(tensor: Tensor) -> bool:
    if tensor.layout != torch.strided or type(tensor) not in (Tensor, nn.Parameter, nn.Buffer):
        return False
    try:
        return tensor.untyped_storage() is not None
    except (RuntimeError, NotImplementedError):  # within vmap
        return False


def _place(tensor: Tensor) -> _Place:
    """Where a tensor lies; one without memory is itself, and is kept."""
    if not _is_plain(tensor):
        return (-id(tensor), 0)
    key = int(tensor.untyped_storage()._cdata)
    return (key, tensor.storage_offset(), tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()))


def _extent(tensor: Tensor) -> tuple[int, int]:
    """First byte in its memory, and the one after the last."""
    if not _is_plain(tensor) or tensor.numel() == 0:
        return 0, 0
    last = sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    start = int(tensor.storage_offset())
    return start * tensor.itemsize, (start + int(last) + 1) * tensor.itemsize
