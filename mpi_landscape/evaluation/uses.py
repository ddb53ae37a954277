"""What a call of a function of PyTorch does with its arguments: which is a weight, and over which of its axes is summed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Role = Literal["weight", "bias", "norm", "scale", "shift"]


@dataclass(frozen=True, kw_only=True)
class Use:
    """One argument's part in a call.

    Args:
        tensor: The argument.
        role: What it is there.
        summed: Of a weight, its axes that are summed over.
        groups: Of the weight of a transposed convolution, its groups; 0 otherwise.
        other: What it is multiplied with or added to, or normalizes, where that may be a parameter too; None where it is no
            tensor.
    """

    tensor: Tensor
    role: Role
    summed: tuple[int, ...] = ()
    groups: int = 0
    other: Tensor | None = None


# Arguments by name, in their order; of functions and methods alike.
_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_LAYERS = {
    "linear": ("input", "weight", "bias"),
    "bilinear": ("input1", "input2", "weight", "bias"),
    **{f"conv{axes}d": _CONVOLUTION for axes in (1, 2, 3)},
    **{f"conv_transpose{axes}d": _TRANSPOSED for axes in (1, 2, 3)},
}
# First factor, second factor, summand.
_PRODUCTS = {
    "matmul": ("left", "right"),
    "mm": ("left", "right"),
    "bmm": ("left", "right"),
    "mv": ("left", "right"),
    "rmatmul": ("right", "left"),
    "addmm": ("bias", "left", "right"),
    "addmv": ("bias", "left", "right"),
    "addbmm": ("bias", "left", "right"),
    "baddbmm": ("bias", "left", "right"),
    # Of a mixture of experts, tokens after tokens; the second where a machine has not the first (transformers).
    "grouped_mm": ("left", "right"),
    "grouped_mm_fallback": ("left", "right"),
}
_KEYWORDS = {
    "left": ("mat1", "batch1", "mat", "left", "mat_a"),
    "right": ("other", "mat2", "batch2", "vec", "right", "mat_b"),
    "bias": ("input", "self"),
}
_ATTENTION = {5: "in_proj_weight", 6: "in_proj_bias", 11: "out_proj_weight", 12: "out_proj_bias"}
_ATTENTION_BY_NAME = ("q_proj_weight", "k_proj_weight", "v_proj_weight")
# Where weight and bias of normalizations stand; PyTorch has each twice, with other orders.
_NORMS: Mapping[Any, tuple[int, ...]] = {
    F.batch_norm: (3, 4),
    F.instance_norm: (3, 4),
    F.layer_norm: (2, 3),
    F.group_norm: (2, 3),
    torch.batch_norm: (1, 2),
    torch.instance_norm: (1, 2),
    torch.layer_norm: (2, 3),
    torch.group_norm: (2, 3),
    F.rms_norm: (2,),
    torch.rms_norm: (2,),
}
_SCALES = frozenset({"mul", "rmul", "imul", "multiply"})
_SHIFTS = frozenset({"add", "radd", "iadd"})


def uses_of(func: Any, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Use]:
    """The parts that tensors have in a call, as far as they are known.

    Args:
        func: The function or method.
        name: Its name, without underscores at its ends.
        args: As it was called.
        kwargs: Likewise.

    Example:
        >>> inputs, weight = torch.ones(2, 3), torch.ones(3, 5)
        >>> [(use.role, use.summed) for use in uses_of(torch.mm, "mm", (inputs, weight), {}) if use.tensor is weight]
        [('weight', (0,))]
    """
    if name in _LAYERS:
        found = _layer(name, {**dict(zip(_LAYERS[name], args, strict=False)), **kwargs})
    elif name in _PRODUCTS:
        found = _product(_bound(name, args, kwargs))
    elif name == "einsum":
        found = _einsum(*args)
    elif name == "tensordot":
        found = _tensordot(*args[:2], *(args[2:3] or (kwargs.get("dims", 2),))) if len(args) > 1 else iter(())
    elif name == "multi_head_attention_forward":
        found = _attention(args, kwargs)
    elif name in _SCALES or name in _SHIFTS:
        found = _elementwise("scale" if name in _SCALES else "shift", args)
    elif name == "addcmul" and len(args) > 2:
        found = _addcmul(args)
    elif func in _NORMS:
        given = [
            *(args[place] for place in _NORMS[func] if place < len(args)),
            kwargs.get("weight"),
            kwargs.get("bias"),
        ]
        inputs = args[0] if args else kwargs.get("input")
        found = (Use(tensor=each, role="norm", other=inputs) for each in given if isinstance(each, Tensor))
    else:
        return
    yield from found


def _bias(tensor: Any) -> Iterator[Use]:
    if isinstance(tensor, Tensor):
        yield Use(tensor=tensor, role="bias")


def _layer(name: str, given: Mapping[str, Any]) -> Iterator[Use]:
    weight = given.get("weight")
    yield from _bias(given.get("bias"))
    if not isinstance(weight, Tensor):
        return
    if name.startswith("conv_transpose"):
        yield Use(tensor=weight, role="weight", groups=int(given.get("groups", 1)))
    else:
        first = 0 if weight.ndim < 2 else 1  # a linear layer of one output may have a vector
        yield Use(tensor=weight, role="weight", summed=tuple(range(first, weight.ndim)))


def _bound(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The factors of a product, and its summand."""
    found = dict(zip(_PRODUCTS[name], args, strict=False))
    for part in _PRODUCTS[name]:
        if part not in found:
            found[part] = next((kwargs[word] for word in _KEYWORDS[part] if word in kwargs), None)
    return found


def _product(given: Mapping[str, Any]) -> Iterator[Use]:
    left, right = given.get("left"), given.get("right")
    yield from _bias(given.get("bias"))
    if isinstance(left, Tensor) and isinstance(right, Tensor) and left.ndim and right.ndim:
        yield Use(tensor=left, role="weight", summed=(left.ndim - 1,), other=right)
        yield Use(tensor=right, role="weight", summed=(max(0, right.ndim - 2),), other=left)


def _einsum(equation: Any = None, *operands: Any) -> Iterator[Use]:
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    if not isinstance(equation, str) or len(operands) != 2 or "->" not in equation:
        return
    terms, output = equation.replace(" ", "").split("->")
    for number, term in enumerate(terms.split(",")):
        tensor, other = operands[number], operands[1 - number]
        if not isinstance(tensor, Tensor) or not isinstance(other, Tensor):
            return
        before, dots, after = term.partition("...")
        letters = [*before, *[""] * (tensor.ndim - len(before) - len(after) if dots else 0), *after]
        summed = tuple(axis for axis, letter in enumerate(letters) if letter and letter not in output)
        if summed and len(letters) == tensor.ndim:
            yield Use(tensor=tensor, role="weight", summed=summed, other=other)


def _tensordot(left: Any, right: Any, dims: Any) -> Iterator[Use]:
    if not isinstance(left, Tensor) or not isinstance(right, Tensor):
        return
    if isinstance(dims, int):
        dims = (range(left.ndim - dims, left.ndim), range(dims))
    if isinstance(dims, Tensor) or not isinstance(dims[0], Sequence):
        return
    for tensor, other, axes in ((left, right, dims[0]), (right, left, dims[1])):
        yield Use(
            tensor=tensor, role="weight", summed=tuple(axis % tensor.ndim for axis in axes), other=other
        )


def _attention(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[Use]:
    given = {name: args[place] for place, name in _ATTENTION.items() if place < len(args)} | dict(kwargs)
    for name in (*_ATTENTION.values(), *_ATTENTION_BY_NAME):
        tensor = given.get(name)
        if name.endswith("bias"):
            yield from _bias(tensor)
        elif isinstance(tensor, Tensor):
            yield Use(tensor=tensor, role="weight", summed=(1,))


def _elementwise(role: Role, args: Sequence[Any]) -> Iterator[Use]:
    for number, tensor in enumerate(args[:2]):
        other = args[1 - number] if len(args) > 1 else None
        if isinstance(tensor, Tensor):
            yield Use(tensor=tensor, role=role, other=other if isinstance(other, Tensor) else None)


def _addcmul(args: Sequence[Any]) -> Iterator[Use]:
    """A summand and two factors."""
    summand, *factors = args[:3]
    if all(isinstance(each, Tensor) for each in args[:3]):
        yield Use(tensor=summand, role="shift", other=factors[0])
        yield Use(tensor=factors[0], role="scale", other=factors[1])
        yield Use(tensor=factors[1], role="scale", other=factors[0])
