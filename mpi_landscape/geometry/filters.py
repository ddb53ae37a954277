"""What a filter is, for each tensor of each type of layer.

Li et al. 2018 (arXiv:1712.09913, section 4) normalize directions *filter* by filter, where a
filter is the weights that generate one feature map. For each tensor that is:

| layer                         | tensor                | shape                  | kind   | filters          |
| ----------------------------- | --------------------- | ---------------------- | ------ | ---------------- |
| convolution                   | weight                | (out, in/g, ...)       | weight | out, axis 0      |
| transposed convolution        | weight                | (in, out/g, ...)       | weight | out, see below   |
| linear, bilinear              | weight                | (out, in, ...)         | weight | out, axis 0      |
| attention                     | in_proj_weight        | (3·embed, embed)       | weight | rows, axis 0     |
| recurrent                     | weight_ih, weight_hh  | (gates·hidden, ...)    | weight | rows, axis 0     |
| embedding                     | weight                | (tokens, embed)        | weight | rows, axis 0     |
| any other                     | tokens, positions     | (1, number, embed)     | weight | rows, axis 1     |
| normalization                 | all parameters        | any                    | norm   | one              |
| normalization, when asked     | running statistics    | (channels,)            | buffer | one              |
| any other                     | named …bias…          | 0 or 1 axes            | bias   | one              |
| any other                     | named …bias           | any (by expert, say)   | bias   | one              |
| any other                     | of one element        | any                    | scalar | one              |
| any other (scales, tokens)    | any                   | 0 or 1 axes            | weight | one              |
| any other                     | any                   | 2 axes or more         | weight | axis 0           |

Output channel c of a transposed convolution with g groups is made by the weights
`weight[i, c % (out/g)]` of the input channels i of its own group: with the tensor viewed as
(g, in/g, out/g, ...), axes 0 and 2 enumerate the filters. A normalization layer is a module whose class, or
a class it derives from, has a name that ends in Norm, Norm1d, Norm2d or Norm3d: all of PyTorch's, and
the custom ones. A parametrized tensor (`torch.nn.utils.parametrize`) follows the layer that owns it. A tensor of one
element is a scale or a temperature (CLIP's logit_scale, a PReLU's slope), and a filter's norm would be the number itself;
weights of PyTorch's own layers stay weights, however small.

What follows for language models, architecture by architecture and with reasons, stands in docs/language.md.

For the layers of PyTorch the table is what is known of them. For a user's own it is a guess by shape and name, which gives
way to what is seen of a tensor's use, or is said of it: see `layout_of`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Literal

from torch import nn

Kind = Literal["weight", "bias", "norm", "scalar", "buffer"]

_NORM_NAME = re.compile(r"Norm([123][dD])?$")
_PARAMETRIZED = re.compile(r"(?:(.*)\.)?parametrizations\.([^.]+)\.original\d*")
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True, kw_only=True)
class Division:
    """A tensor's kind, and how it falls into filters.

    Args:
        kind: `weight`, `bias`, `norm` or `scalar`, as in the table above.
        view: Shape to view the tensor in, of the same number of elements.
        axes: Axes of that view that enumerate filters; `()` when the tensor is one filter.
    """

    kind: Kind
    view: tuple[int, ...]
    axes: tuple[int, ...]


def division(layer: nn.Module, local: str, shape: tuple[int, ...]) -> Division:
    """How a tensor of this name in its layer, such as `weight`, falls into filters, by the table above.

    Example:
        >>> division(nn.Conv2d(3, 8, 5), "weight", (8, 3, 5, 5)).axes  # 8 filters of 3·5·5 weights
        (0,)
        >>> division(nn.ConvTranspose2d(6, 4, 3, groups=2), "weight", (6, 2, 3, 3))  # 2·2 filters of 3·3·3 weights
        Division(kind='weight', view=(2, 3, 2, 3, 3), axes=(0, 2))
    """
    if is_normalization(layer):
        return whole("norm", shape)
    if (len(shape) < 2 and "bias" in local) or (local.endswith("bias") and not is_known(layer)):
        return whole("bias", shape)
    if prod(shape) == 1 and (len(shape) < 2 or not is_known(layer)):
        return whole("scalar", shape)
    if len(shape) < 2:
        return whole("weight", shape)
    if isinstance(layer, _TRANSPOSED):
        groups = layer.groups
        # Not every tensor of the layer is its weight: weight_g of weight_norm is (in, 1, ...).
        if shape[:2] == (layer.in_channels, layer.out_channels // groups):
            return transposed(shape, groups)
    # A table of vectors that are added or put in front, such as positions: no layer of PyTorch has one.
    is_table = len(shape) == 3 and shape[0] == 1 and min(shape[1:]) > 1 and not is_known(layer)
    return Division(kind="weight", view=shape, axes=(1 if is_table else 0,))


def whole(kind: Kind, shape: tuple[int, ...]) -> Division:
    """A tensor that is one filter."""
    return Division(kind=kind, view=(prod(shape),), axes=())


def transposed(shape: tuple[int, ...], groups: int) -> Division:
    """The weight (in, out/g, ...) of a transposed convolution with so many groups."""
    return Division(kind="weight", view=(groups, shape[0] // groups, *shape[1:]), axes=(0, 2))


def is_same(one: Division, other: Division, shape: tuple[int, ...]) -> bool:
    """Whether two divisions of a tensor of this shape are of one kind and give the same filters."""
    return one.kind == other.kind and _long_axes(one, shape) == _long_axes(other, shape)


def _long_axes(rule: Division, shape: tuple[int, ...]) -> object:
    """What tells divisions apart: axes of one element enumerate nothing, and views without filters are alike."""
    axes = [axis for axis in rule.axes if rule.view[axis] > 1]
    return (rule.view if rule.view != shape else (), axes) if axes else ()


def is_known(layer: nn.Module) -> bool:
    """Whether a layer does what a layer of PyTorch does: it has its `forward`, perhaps under another name."""
    forward = type(layer).forward
    if forward is nn.Module.forward:  # of a module that only keeps tensors
        return False
    return str(getattr(forward, "__module__", "")).startswith("torch.nn.modules.")


def is_normalization(layer: nn.Module) -> bool:
    """Whether the layer normalizes, by the names of its class and of the classes it derives from."""
    return any(_NORM_NAME.search(kind.__name__) for kind in type(layer).__mro__)


def owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The layer that a parameter or buffer of this name belongs to, and its own name there."""
    path, local = owner_path(name)
    for part in filter(None, path.split(".")):
        model = getattr(model, part)  # a network in TorchScript has no get_submodule
    return model, local


def owner_path(name: str) -> tuple[str, str]:
    """The path of that layer in the network, and the tensor's own name there.

    Example:
        >>> owner_path("stem.parametrizations.weight.original0")
        ('stem', 'weight')
    """
    parametrized = _PARAMETRIZED.fullmatch(name)
    if parametrized:
        return parametrized[1] or "", parametrized[2]
    path, _, local = name.rpartition(".")
    return path, local
