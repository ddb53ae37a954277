"""Batch normalization that follows a layer, multiplied into the layer's weight by operations that are differentiated along.

In evaluation mode a batch normalization is y -> s (y - μ) + b with s = γ / √(σ² + ε) (Ioffe and Szegedy 2015, arXiv:1502.03167,
section 3.1), so the layer's weight becomes s W and its bias s (c - μ) + b. As these are torch's operations on the parameters W,
c, γ and b, derivatives of any order by all of them are the plain network's, and the graph of a batch is about half as large.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.engine.dataflow import observed
from mpi_landscape.evaluation.engine.folding import Pair, find_pairs


class Folded(nn.Module):
    """A layer and the normalization that follows it, as one layer.

    Example:
        With s = 3 / √4, μ = 1 and b = 7, the layer 2 x + 5 becomes s (2 x + 5 - μ) + b:

        >>> layer, norm = nn.Linear(1, 1), nn.BatchNorm1d(1, eps=0.0).eval()
        >>> norm.running_mean, norm.running_var = torch.tensor([1.0]), torch.tensor([4.0])
        >>> for tensor, value in ((layer.weight, 2), (layer.bias, 5), (norm.weight, 3), (norm.bias, 7)):
        ...     _ = tensor.data.fill_(value)
        >>> Folded(layer, norm)(torch.tensor([[10.0]])).item()
        43.0
    """

    def __init__(self, layer: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.layer, self.norm = layer, norm

    def forward(self, x: Tensor) -> Tensor:
        """What the normalization gives of what the layer gives."""
        layer: Any = self.layer
        norm: Any = self.norm
        scale = (norm.running_var + norm.eps).rsqrt()
        if norm.weight is not None:
            scale = norm.weight * scale
        weight = layer.weight * scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
        shift = -norm.running_mean if layer.bias is None else layer.bias - norm.running_mean
        bias = shift * scale if norm.bias is None else torch.addcmul(norm.bias, shift, scale)
        if isinstance(layer, nn.Linear):
            return F.linear(x, weight, bias)
        result: Tensor = layer._conv_forward(x, weight, bias)
        return result


def pairs_of(network: nn.Module, run: Callable[[nn.Module], Any]) -> list[Pair]:
    """Layers and the normalizations that alone follow them, seen in one pass.

    Args:
        network: In evaluation mode.
        run: (network) -> the losses of some examples.

    Raises:
        LandscapeError: Python looks at numbers in the pass, so another one may go another way.
    """

    def watch(layers: Sequence[str]) -> Any:
        flow = observed(network, run, layers=layers)
        if flow.reads is not None:
            raise LandscapeError(f"{flow.reads}, so other points or batches may go another way")
        return flow

    return find_pairs(network, watch)


def fold(network: nn.Module, pairs: Sequence[Pair]) -> None:
    """Put `Folded` in the place of layers, and nothing in that of their normalizations, in place."""
    for layer, norm in pairs:
        network.set_submodule(layer, Folded(network.get_submodule(layer), network.get_submodule(norm)))
        network.set_submodule(norm, nn.Identity())
