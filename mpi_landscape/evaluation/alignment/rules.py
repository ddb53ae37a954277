"""What each operation of PyTorch does with the order of its axes.

A rule gives the axes of the results and ties those that must have one order. It holds for all values of the tensors. An operation
without a rule, or called in a way that its rule does not know, leaves all axes that enter it in order, and its results: right
always, as the identity is a permutation, too.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mpi_landscape.evaluation.alignment.axes import SINGLE, free, joined, length, part, product
from mpi_landscape.evaluation.alignment.operation import Axes, Operation, Results
from mpi_landscape.evaluation.alignment.shaping import SHAPING

Rule = Callable[[Operation], Results]


def elementwise(op: Operation) -> Results:
    """Element by element, with broadcasting."""
    shape = op.results[0].shape
    found: Axes = []
    sides = [(each, op.known(each)) for each in op.tensors]
    for back in range(len(shape), 0, -1):
        here = [axes[-back] for each, axes in sides if each.ndim >= back and each.shape[-back] != 1]
        for other in here[1:]:
            op.tie(here[0], other)
        # One number for all positions has no order.
        found.append(here[0] if here else free(shape[-back]))
    return [found if each.shape == shape else None for each in op.results]


def like_the_first(op: Operation) -> Results:
    """Results of the shape of the first tensor, whose positions do not mix, or mix alike in any order."""
    axes = op.known(op.first)
    return [list(axes) if each.shape == op.first.shape else None for each in op.results]


def uniform(op: Operation) -> Results:
    """A tensor of one number."""
    return [[free(size) for size in each.shape] for each in op.results]


def reduction(op: Operation) -> Results:
    """A sum, mean, norm or extreme, which is the same in any order of what it goes over."""
    axes = op.known(op.first)
    over = op.dims("dim", len(axes))
    if op.get("keepdim"):
        left = [SINGLE if at in over else axis for at, axis in enumerate(axes)]
    else:
        left = [axis for at, axis in enumerate(axes) if at not in over]
    return [left for _ in op.results]


def ordered(op: Operation) -> Results:
    """What goes along an axis in its order, or tells positions of it."""
    axes = op.known(op.first)
    over = op.dims("dims" if "dims" in op.arguments else "dim", len(axes))
    op.fix(*(axes[at] for at in over))
    if op.results[0].ndim == len(axes):
        left = [op.in_order(op.results[0].shape[at]) if at in over else axis for at, axis in enumerate(axes)]
    else:
        left = [axis for at, axis in enumerate(axes) if at not in over]
    return [left for _ in op.results]


def extreme(op: Operation) -> Results:
    """`max` and `min`: of all numbers, or along an axis with the positions at which they are."""
    return ordered(op) if "dim" in op.arguments else reduction(op)


def matrix_product(op: Operation) -> Results:
    """`mm`, `bmm`, `addmm` and their kind: what is summed over has one order in both factors."""
    *others, left, right = (op.known(each) for each in op.tensors)
    if len(left) > 1 and len(right) > 1:
        for one, other in zip(left[:-2], right[:-2], strict=True):
            op.tie(one, other)
        op.tie(left[-1], right[-2])
        found = [*left[:-1], right[-1]]
    else:  # a matrix or a vector, and a vector
        op.tie(left[-1], right[0])
        found = [*left[:-1]]
    if op.name == "addbmm":
        found = found[1:]
    for axes in others:
        _broadcast(op, axes, found)
    return [found]


def linear(op: Operation) -> Results:
    """`linear`, where it is one operation."""
    inputs, weight, bias = op.known(op.arguments["input"]), op.known(op.arguments["weight"]), op.axes("bias")
    op.tie(inputs[-1], weight[1])
    if bias is not None:
        op.tie(bias[0], weight[0])
    return [[*inputs[:-1], weight[0]]]


def convolution(op: Operation) -> Results:
    """Channels as in a matrix product; groups of channels change places as wholes, and alike within; pixels stay in order."""
    inputs, weight, bias = op.known(op.arguments["input"]), op.known(op.arguments["weight"]), op.axes("bias")
    op.fix(*inputs[2:], *weight[2:])
    groups = op.get("groups", 1)
    given, made = (weight[0], weight[1]) if op.get("transposed") else (weight[1], weight[0])
    if groups > 1:
        units = free(groups)
        inner = free(length(inputs[1]) // groups)
        op.tie(inputs[1], product(units, inner))
        if op.get("transposed"):
            op.tie(given, product(units, inner))
            made = product(units, made)
        else:
            op.tie(given, inner)
            op.tie(made, product(units, free(length(made) // groups)))
    else:
        op.tie(inputs[1], given)
    if bias is not None:
        op.tie(bias[0], made)
    return [[inputs[0], made, *(op.in_order(size) for size in op.results[0].shape[2:])]]


def batch_norm(op: Operation) -> Results:
    """Each channel by itself; its scale, shift and running statistics follow it."""
    axes = op.known(op.arguments["input"])
    for name in ("weight", "bias"):
        other = op.axes(name)
        if other is not None:
            op.tie(axes[1], other[0])
    for name in ("running_mean", "running_var"):
        tensor = op.get(name)
        if isinstance(tensor, Tensor):
            op.tie(axes[1], op.statistics(tensor)[0])
    first, *others = op.results
    return [
        list(axes),
        *([axes[1]] if tuple(each.shape) == tuple(first.shape[1:2]) else None for each in others),
    ]


def layer_norm(op: Operation) -> Results:
    """Mean and spread are the same in any order of the features; scale and shift follow them."""
    axes = op.known(op.arguments["input"])
    over = len(op.arguments["normalized_shape"])
    for name in ("weight", "bias"):
        other = op.axes(name)
        if other is not None:
            for one, two in zip(axes[len(axes) - over :], other, strict=True):
                op.tie(one, two)
    left = [*axes[: len(axes) - over], *([SINGLE] * over)]
    return [list(axes), *(left if each.ndim == len(axes) else None for each in op.results[1:])]


def group_norm(op: Operation) -> Results:
    """Channels change places within their group."""
    axes, groups = op.known(op.arguments["input"]), op.arguments["group"]
    channels = op.arguments["C"]
    if groups < channels:
        op.tie(axes[1], joined(*(free(channels // groups) for _ in range(groups))))
    for name in ("weight", "bias"):
        other = op.axes(name)
        if other is not None:
            op.tie(axes[1], other[0])
    return [list(axes), *(None for _ in op.results[1:])]


def weight_norm(op: Operation) -> Results:
    """Length and direction of a weight along one of its axes."""
    axes, lengths, dim = op.known(op.arguments["v"]), op.known(op.arguments["g"]), op.get("dim", 0)
    op.tie(axes[dim], lengths[dim])
    return [list(axes), *(list(lengths) for _ in op.results[1:])]


def spatial(op: Operation) -> Results:
    """Pooling, resizing and reflecting, channel by channel; pixels stay in order."""
    axes = op.known(op.first)
    pixels = next(int(each) for each in "123" if f"{each}d" in op.name)
    op.fix(*axes[-pixels:])
    return [
        [*axes[:-pixels], *(op.in_order(size) for size in each.shape[-pixels:])]
        if each.ndim == len(axes)
        else None
        for each in op.results
    ]


def embedding(op: Operation) -> Results:
    """Rows of a table by their numbers."""
    weight, indices = op.known(op.arguments["weight"]), op.known(op.arguments["indices"])
    op.fix(weight[0])
    return [[*indices, weight[1]]]


def attention(op: Operation) -> Results:
    """Softmax of products of queries and keys, and its products with values, head by head; tokens stay in order."""
    query, key, value = (op.known(op.arguments[name]) for name in ("query", "key", "value"))
    op.fix(query[-2], key[-2], value[-2])
    for one, two, three in zip(query[:-2], key[:-2], value[:-2], strict=True):
        op.tie(one, two)
        op.tie(one, three)
    op.tie(query[-1], key[-1])
    for name in ("attn_mask", "attn_bias"):
        mask = op.axes(name)
        if mask is not None:
            _broadcast(op, mask, [*query[:-1], key[-2]])
    return [[*query[:-1], value[-1]], *(None for _ in op.results[1:])]


def gated(op: Operation) -> Results:
    """`glu`: one half of the units is the gate of the other."""
    axes = list(op.known(op.first))
    dim = op.get("dim", -1) % len(axes)
    half = length(axes[dim]) // 2
    one, other = part(axes[dim], 0, half, op.reason), part(axes[dim], half, 2 * half, op.reason)
    op.tie(one, other)
    axes[dim] = one
    return [axes]


def _broadcast(op: Operation, axes: Axes, to: Axes) -> None:
    for one, other in zip(reversed(axes), reversed(to), strict=False):
        if length(one) != 1:
            op.tie(one, other)


# By rule, the operations that it holds for.
NAMES: dict[Rule, str] = {
    uniform: """
        zeros ones full empty new_zeros new_ones new_full new_empty scalar_tensor zeros_like ones_like full_like empty_like
        empty_strided new_empty_strided
    """,
    # Element by element, though PyTorch does not say so.
    elementwise: "_prelu_kernel prelu masked_fill where copy fill zero polar complex _to_copy clone isclose hardswish",
    like_the_first: "_softmax _log_softmax detach alias lift_fresh lift contiguous log_sigmoid_forward",
    reduction: """
        sum mean amax amin prod logsumexp var std var_mean std_mean any all linalg_vector_norm norm nansum nanmean count_nonzero
        aminmax
    """,
    extreme: "max min",
    ordered: """
        cumsum cumprod cummax cummin logcumsumexp sort argsort topk kthvalue median nanmedian mode argmax argmin flip roll
    """,
    matrix_product: "mm bmm addmm baddbmm addbmm mv addmv dot vdot _addmm_activation",
    linear: "linear",
    convolution: "convolution _convolution convolution_overrideable",
    batch_norm: """
        native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm miopen_batch_norm
        _batch_norm_with_update _batch_norm_no_update
    """,
    layer_norm: "native_layer_norm _fused_rms_norm rms_norm",
    group_norm: "native_group_norm",
    weight_norm: "_weight_norm_interface",
    spatial: """
        max_pool1d max_pool2d_with_indices max_pool3d_with_indices avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
        _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d upsample_nearest1d
        upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
        upsample_linear1d upsample_bilinear2d upsample_bicubic2d upsample_trilinear3d reflection_pad1d reflection_pad2d
        reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
    """,
    embedding: "embedding",
    attention: """
        _scaled_dot_product_flash_attention _scaled_dot_product_flash_attention_for_cpu
        _scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention
        _scaled_dot_product_fused_attention_overrideable
    """,
    gated: "glu",
    **SHAPING,
}
# Rules of operations whose numbers go on to others: they alone use none.
HANDING_ON = frozenset((uniform, elementwise, like_the_first, *SHAPING))
RULES: dict[str, Rule] = {name: rule for rule, names in NAMES.items() for name in names.split()}


def rule_of(func: torch._ops.OpOverload, name: str) -> Rule | None:
    """The rule of an operation; None where none is known."""
    if name in RULES:
        return RULES[name]
    # One that writes in place is not always marked as what it is.
    packet = getattr(getattr(torch.ops, func.namespace), name, None)
    same = [func, *(getattr(packet, each) for each in (packet.overloads() if packet else ()))]
    return elementwise if any(torch.Tag.pointwise in each.tags for each in same) else None
