"""What a user's own tensors are, seen in one pass: which axis makes an output, and what normalizes.

`geometry.filters` knows the layers of PyTorch. Of another layer it can only guess: GPT-2 keeps its weights as (in, out), and a
class called ConvNorm may own a convolution. So the functions of PyTorch that a pass calls are watched. A weight is what is
multiplied and summed over: an axis of it that is summed over is no output, all others are.

A parameter is recognized by the memory of an argument, and an axis by its stride: so transposes, reshapes and slices are seen
through, whoever made them, and what has been copied or computed on the way is not told.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mpi_landscape.evaluation.engine.watching import watched
from mpi_landscape.evaluation.uses import Use, uses_of
from mpi_landscape.geometry.filters import Division, division, is_known, is_same, owner, transposed, whole

# A layer normalizes where it takes a spread, or a mean and a root of it.
_SPREADS = frozenset({"var", "std", "var_mean", "std_mean"})
_ROOTS = frozenset({"sqrt", "rsqrt"})


def roles_of(network: nn.Module, run: Callable[[nn.Module], Any]) -> Mapping[str, Division]:
    """What tensors are, by name, where a pass shows something else than the table in `geometry.filters` says.

    A tensor that has several roles that contradict each other, or none that is seen, is not told, and the table holds.

    Args:
        network: In evaluation mode; only layers that are not PyTorch's own are of interest.
        run: Calls the network, and the loss, on a few examples.

    Returns:
        Divisions of parameters, to be given to `layout_of`.

    Raises:
        Exception: What `run` raises.

    Example:
        >>> class Sideways(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.weight = nn.Parameter(torch.ones(5, 3))
        ...     def forward(self, inputs):
        ...         return inputs @ self.weight
        >>> roles_of(Sideways(), lambda network: network(torch.ones(2, 5)))
        {'weight': Division(kind='weight', view=(5, 3), axes=(1,))}
    """
    untold = {
        name: each for name, each in network.named_parameters() if not is_known(owner(network, name)[0])
    }
    if not untold:
        return {}
    seen = _Seen(network, untold)
    with _Watching(seen):
        watched(seen.hooks(), lambda: run(network))
    return dict(seen.roles())


class _Watching(TorchFunctionMode):
    """Tells of every call of a function of PyTorch."""

    def __init__(self, seen: _Seen) -> None:
        super().__init__()
        self._seen = seen

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._seen.note(func, args, kwargs or {}, result)
        return result


class _Seen:
    """What has been seen of some parameters of a network."""

    def __init__(self, network: nn.Module, parameters: Mapping[str, nn.Parameter]) -> None:
        self._network, self._parameters = network, parameters
        starts: dict[int, str] = {}
        for name, each in parameters.items():
            if _has_memory(each):  # of tied ones the first name counts
                starts.setdefault(each.data_ptr(), name)
        self._starts = sorted(starts.items())
        self._weights: dict[str, set[Division]] = defaultdict(set)
        self._uses: dict[str, set[str]] = defaultdict(set)
        self._within: list[nn.Module] = []
        self._called: dict[nn.Module, set[str]] = defaultdict(set)
        # What is made of a parameter: kept, so that no other tensor gets its place.
        self._made: dict[int, tuple[str, str, Tensor]] = {}

    def hooks(self) -> list[Any]:
        """On every module, so that it is known whose function is being called."""

        def before(module: nn.Module, _: Any) -> None:
            self._within.append(module)

        def after(*_: Any) -> None:
            self._within.pop()

        modules = list(self._network.modules())
        return [each.register_forward_pre_hook(before) for each in modules] + [
            each.register_forward_hook(after) for each in modules
        ]

    def note(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """Look at a call."""
        name = str(getattr(func, "__name__", "")).strip("_")
        if self._within:
            self._called[self._within[-1]].add("rsqrt" if _is_inverse_root(name, args) else name)
        for use in uses_of(func, name, args, kwargs):
            found = self._find(use.tensor)
            if found is None:
                self._note_generated(use)
            elif use.role == "weight":
                # A product of two parameters is no output.
                if use.other is None or self._find(use.other) is None:
                    self._note_weight(found, use, result)
            else:
                self._note_other(found, use, result)

    def roles(self) -> Iterable[tuple[str, Division]]:
        """The roles that differ from the table."""
        for name, parameter in self._parameters.items():
            shape = tuple(parameter.shape)
            layer, local = owner(self._network, name)
            told, table = self._told(name, layer, shape), division(layer, local, shape)
            # A single number is as well a scale as part of a normalization.
            if (
                told is not None
                and not is_same(told, table, shape)
                and (told.kind, table.kind) != ("norm", "scalar")
            ):
                yield name, told

    def _told(self, name: str, layer: nn.Module, shape: tuple[int, ...]) -> Division | None:
        weights, uses = self._weights.get(name, set()), self._uses.get(name, set())
        if "generator" in uses or len(weights) > 1:
            return None
        if weights:
            return next(iter(weights))
        if "norm" in uses or (uses & {"scale", "shift"} and self._normalizes(layer)):
            return whole("norm", shape)
        return whole("bias", shape) if "bias" in uses else None

    def _normalizes(self, layer: nn.Module) -> bool:
        called = self._called.get(layer, set())
        scales = any(
            "scale" in self._uses.get(name, set()) and owner(self._network, name)[0] is layer
            for name in self._parameters
        )
        return scales and bool(called & _SPREADS or ("mean" in called and called & _ROOTS))

    def _note_weight(self, name: str, use: Use, result: Any) -> None:
        parameter = self._parameters[name]
        rule = _division(parameter, use)
        if rule is not None:
            self._weights[name].add(rule)
            self._keep(name, "product", result)

    def _note_other(self, name: str, use: Use, result: Any) -> None:
        parameter = self._parameters[name]
        if use.role in ("scale", "shift"):
            if use.other is None:  # such as 1 + weight
                self._keep(name, "same", result)
            elif self._within and owner(self._network, name)[0] is self._within[-1]:
                self._uses[name].add(use.role)
        elif use.other is not None and self._find(use.other) is not None:
            return  # of a standardized weight
        elif sum(length > 1 for length in parameter.shape) <= 1 and use.tensor.numel() == parameter.numel():
            self._uses[name].add(use.role)

    def _note_generated(self, use: Use) -> None:
        """A weight that is itself a product: what it is made with makes weights, and is none."""
        if use.role == "weight" and use.other is None and _has_memory(use.tensor):
            name, how, _ = self._made.get(use.tensor.data_ptr(), ("", "", None))
            if how == "product":
                self._uses[name].add("generator")

    def _keep(self, name: str, how: str, result: Any) -> None:
        if isinstance(result, Tensor) and _has_memory(result):
            self._made[result.data_ptr()] = (name, how, result)

    def _find(self, tensor: Any) -> str | None:
        """The parameter in whose memory a tensor lies, or of which it was made by adding a number."""
        if not isinstance(tensor, Tensor) or not _has_memory(tensor):
            return None
        place = tensor.data_ptr()
        index = bisect_right(self._starts, (place, chr(0x10FFFF))) - 1
        if index >= 0:
            start, name = self._starts[index]
            parameter = self._parameters[name]
            if (
                place < start + _extent(parameter) * parameter.element_size()
                and tensor.dtype == parameter.dtype
            ):
                return name
        name, how, _ = self._made.get(place, ("", "", None))
        return name if how == "same" else None


def _division(parameter: Tensor, use: Use) -> Division | None:
    """How a parameter falls into filters that is used so; None where that cannot be told."""
    shape, view = tuple(parameter.shape), use.tensor
    if use.groups:
        is_itself = view.shape == parameter.shape and view.stride() == parameter.stride()
        return transposed(shape, use.groups) if is_itself and parameter.ndim > 1 else None
    summed = {own for axis in use.summed for own in _axes(parameter, view, axis)}
    others = set(range(view.ndim)) - set(use.summed)
    if summed & {own for axis in others for own in _axes(parameter, view, axis)}:
        return None
    if len(shape) < 2:
        return whole("weight", shape)
    return Division(
        kind="weight",
        view=shape,
        axes=tuple(axis for axis, length in enumerate(shape) if length > 1 and axis not in summed),
    )


def _axes(parameter: Tensor, view: Tensor, axis: int) -> set[int]:
    """Axes of a parameter along which an axis of a view of it runs: those whose places in memory it passes."""
    length, step = view.shape[axis], view.stride(axis)
    return {
        own
        for own, (size, stride) in enumerate(zip(parameter.shape, parameter.stride(), strict=True))
        if length > 1 and size > 1 and stride < step * length and step < stride * size
    }


def _extent(tensor: Tensor) -> int:
    return 1 + sum((length - 1) * step for length, step in zip(tensor.shape, tensor.stride(), strict=True))


def _has_memory(tensor: Tensor) -> bool:
    try:
        return tensor.layout == torch.strided and tensor.numel() > 0 and tensor.data_ptr() != 0
    except (RuntimeError, NotImplementedError):  # of torch's tensors without numbers
        return False


def _is_inverse_root(name: str, args: tuple[Any, ...]) -> bool:
    return name in ("pow", "rpow") and len(args) > 1 and isinstance(args[1], float) and args[1] == -0.5
