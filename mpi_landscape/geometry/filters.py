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
| normalization                 | all parameters        | any                    | norm   | one              |
| normalization, when asked     | running statistics    | (channels,)            | buffer | one              |
| any other                     | named …bias…          | 0 or 1 axes            | bias   | one              |
| any other (scales, tokens)    | any                   | 0 or 1 axes            | weight | one              |
| any other                     | any                   | 2 axes or more         | weight | axis 0           |

Output channel c of a transposed convolution with g groups is made by the weights
`weight[i, c % (out/g)]` of the input channels i of its own group: with the tensor viewed as
(g, in/g, out/g, ...), axes 0 and 2 enumerate the filters. A normalization layer is a module whose class, or
a class it derives from, has a name that ends in Norm, Norm1d, Norm2d or Norm3d: all of PyTorch's, and
the custom ones. A parametrized tensor (`torch.nn.utils.parametrize`) follows the layer that owns it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Literal

from torch import nn

Kind = Literal["weight", "bias", "norm", "buffer"]

_NORM_NAME = re.compile(r"Norm([123][dD])?$")
_PARAMETRIZED = re.compile(r"(?:(.*)\.)?parametrizations\.([^.]+)\.original\d*")
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True, kw_only=True)
class Division:
    """A tensor's kind, and how it falls into filters.

    Args:
        kind: `weight`, `bias` or `norm`, as in the table above.
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
        return Division(kind="norm", view=(prod(shape),), axes=())
    if len(shape) < 2:
        return Division(kind="bias" if "bias" in local else "weight", view=(prod(shape),), axes=())
    if isinstance(layer, _TRANSPOSED):
        groups = layer.groups
        # Not every tensor of the layer is its weight: weight_g of weight_norm is (in, 1, ...).
        if shape[:2] == (layer.in_channels, layer.out_channels // groups):
            return Division(kind="weight", view=(groups, shape[0] // groups, *shape[1:]), axes=(0, 2))
    return Division(kind="weight", view=shape, axes=(0,))


def is_normalization(layer: nn.Module) -> bool:
    """Whether the layer normalizes, by the names of its class and of the classes it derives from."""
    return any(_NORM_NAME.search(kind.__name__) for kind in type(layer).__mro__)


def owner(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    """The layer that a parameter or buffer of this name belongs to, and its own name there."""
    parametrized = _PARAMETRIZED.fullmatch(name)
    if parametrized:
        return _submodule(model, parametrized[1] or ""), parametrized[2]
    path, _, local = name.rpartition(".")
    return _submodule(model, path), local


def _submodule(model: nn.Module, path: str) -> nn.Module:
    """As `get_submodule`, which a network in TorchScript has not."""
    for part in filter(None, path.split(".")):
        model = getattr(model, part)
    return model
