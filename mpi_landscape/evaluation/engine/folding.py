"""Batch normalization that follows a layer, multiplied into that layer once, at the center and in the directions.

In evaluation mode a batch normalization is y -> s (y - μ) + b with s = γ / √(σ² + ε) (Ioffe and Szegedy 2015, arXiv:1502.03167,
section 3.1). Along directions that leave s and μ alone, s (W x + c - μ) + b stays affine in the parameters: the layer's
weight becomes s W, its bias s (c - μ) + b, and a direction's s D and s d + e. Exact up to rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from mpi_landscape.evaluation.engine.dataflow import Flow, steady
from mpi_landscape.evaluation.engine.description import Engine, Probe, Step
from mpi_landscape.evaluation.vectors import Rows, Vectors, row_blocks
from mpi_landscape.geometry.layout import Layout

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)

Pair = tuple[str, str]


def find_pairs(network: nn.Module, watch: Callable[[Sequence[str]], Flow]) -> list[Pair]:
    """Layers whose output goes into one batch normalization and nowhere else, found by watching one pass.

    Nothing is traced, so this works for any network. Each of a pair is called once in the pass, and nothing but that call
    uses its parameters.

    Args:
        network: In evaluation mode.
        watch: (names of layers) -> what is seen of their calls.

    Returns:
        (layer, normalization) names, in the order of the pass.
    """
    shared = shared_parameters(network)
    plain = {name: module for name, module in network.named_modules() if name and is_plain(module, shared)}
    layers = [name for name, module in plain.items() if type(module) in _LAYERS]
    norms = {name for name, module in plain.items() if type(module) in _NORMS and _is_constant(module)}
    if not layers or not norms:
        return []
    flow = watch([*layers, *norms])
    giving = {call.output: name for name, call in flow.once(layers).items()}
    found = []
    for norm, call in flow.once(name for name in flow.calls if name in norms).items():
        layer = giving.get(call.input)
        if layer is None or call.input is None or not _fits(plain[layer], plain[norm], call.input.shape):
            continue
        alone = flow.is_alone(layer) and flow.is_alone(norm)
        if alone and flow.users(call.input.memory) - {layer} == {norm}:
            found.append((layer, norm))
    return found


def constant_pairs(
    pairs: Iterable[Pair], network: nn.Module, layout: Layout, directions: Sequence[Tensor]
) -> list[Pair]:
    """Those of `find_pairs` whose normalization keeps its scale and its statistics along every direction."""
    moved = {name for vector in directions for name, view in layout.views(vector).items() if bool(view.any())}
    within = {entry.name for entry in layout.entries}
    kept = []
    for layer, norm in pairs:
        scale = _scale(network.get_submodule(norm))
        statistics = {f"{norm}.running_mean", f"{norm}.running_var"}
        # Statistics in the flat vector would be moved with it, or written into a place that a bias has taken.
        if f"{norm}.weight" not in moved and not statistics & within and bool(torch.isfinite(scale).all()):
            kept.append((layer, norm))
    return kept


def fold_vectors(
    pairs: Iterable[Pair], network: nn.Module, center: Tensor, directions: Sequence[Tensor], layout: Layout
) -> None:
    """Multiply normalizations into the flat vectors, in place.

    The place of a normalization's bias is taken by the layer's, where that has none of its own.

    Args:
        pairs: Pairs that `constant_pairs` has kept.
        network: The network at the center, not rewired yet: its statistics and scales count.
        center: (n,), changed.
        directions: (n,) each, changed.
        layout: Layout of these vectors.

    Example:
        With s = 3 / √4, μ = 1 and b = 7, the layer 2 x + 5 becomes s (2 x + 5 - μ) + b:

        >>> from mpi_landscape.geometry.layout import layout_of
        >>> network = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1, eps=0.0)).eval()
        >>> network[1].running_mean, network[1].running_var = torch.tensor([1.0]), torch.tensor([4.0])
        >>> _ = network[1].weight.data.fill_(3)
        >>> center, direction = torch.tensor([2.0, 5.0, 3.0, 7.0]), torch.tensor([1.0, 0.0, 0.0, 2.0])
        >>> fold_vectors([("0", "1")], network, center, [direction], layout_of(network))
        >>> center[:2].tolist(), direction[:2].tolist()
        ([3.0, 13.0], [1.5, 2.0])
    """
    for layer_name, norm_name in pairs:
        norm = network.get_submodule(norm_name)
        assert isinstance(norm.running_mean, Tensor)
        scale, mean = _scale(norm), norm.running_mean.double().cpu()
        for vector in (center, *directions):
            views = layout.views(vector)
            weight = views[f"{layer_name}.weight"]
            factor = scale.to(vector.device).reshape(-1, *[1] * (weight.ndim - 1))
            blocks = row_blocks(weight)
            factors = torch.split(factor, [len(block) for block in blocks])
            for block, each in zip(blocks, factors, strict=True):
                block.copy_(block.double() * each)
            own, beta = views.get(f"{layer_name}.bias"), views.get(f"{norm_name}.bias")
            bias = torch.zeros_like(scale) if own is None else own.double().cpu() * scale
            if beta is not None:
                bias += beta.double().cpu()
            if vector is center:
                bias -= scale * mean
            place = own if own is not None else beta
            if place is not None:
                place.copy_(bias)


def rewire(pairs: Iterable[Pair], network: nn.Module, views: Mapping[str, Tensor]) -> None:
    """Take the normalizations of `fold_vectors` out of a network that follows these views; its layers get a bias."""
    for layer_name, norm_name in pairs:
        layer, norm = network.get_submodule(layer_name), network.get_submodule(norm_name)
        if layer.bias is None:
            bias = views.get(f"{norm_name}.bias")
            if bias is None:  # a normalization without scale and bias: what it subtracts stays the same
                assert isinstance(norm.running_mean, Tensor)
                assert isinstance(layer.weight, Tensor)
                constant = -_scale(norm) * norm.running_mean.double().cpu()
                bias = constant.to(layer.weight.device, layer.weight.dtype)
            layer.bias = nn.Parameter(bias, requires_grad=False)
            layer.bias.data = bias  # a Parameter made of a view is that view only after this
        network.set_submodule(norm_name, nn.Identity())


def _scale(norm: nn.Module) -> Tensor:
    """γ / √(σ² + ε), float64 on the CPU."""
    assert isinstance(norm, _NORMS)
    assert norm.running_var is not None
    root = (norm.running_var.double().cpu() + norm.eps).sqrt()
    return 1 / root if norm.weight is None else norm.weight.detach().double().cpu() / root


def shared_parameters(network: nn.Module) -> set[int]:
    """Parameters that stand in more than one place."""
    places = Counter(id(parameter) for _, parameter in network.named_parameters(remove_duplicate=False))
    return {key for key, count in places.items() if count > 1}


def is_plain(module: nn.Module, shared: set[int]) -> bool:
    """Whether a module does what its class does and has its parameters for itself."""
    changed = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return not changed and not any(id(parameter) in shared for parameter in module.parameters(recurse=False))


def _is_constant(norm: nn.Module) -> bool:
    return not norm.training and norm.running_mean is not None and norm.running_var is not None


def _fits(layer: nn.Module, norm: nn.Module, shape: Sequence[int]) -> bool:
    """Whether the normalized axis is that of the layer's rows: the second, of batches without further axes before it."""
    weight = layer._parameters["weight"]
    assert weight is not None
    return bool(norm.num_features == weight.shape[0]) and len(shape) == weight.ndim


def _proposal(_: Engine, probe: Probe) -> tuple[Pair, ...] | None:
    pairs = find_pairs(probe.network, partial(steady, probe))
    return tuple(constant_pairs(pairs, probe.network, probe.layout, probe.directions)) or None


def _on_vectors(pairs: Sequence[Pair], network: nn.Module, rows: Rows) -> Rows:
    fold_vectors(pairs, network, rows.center, rows.directions, rows.layout)
    return rows


def _on_network(
    pairs: Sequence[Pair], network: nn.Module, vectors: Vectors, lower: torch.dtype | None
) -> nn.Module:
    rewire(pairs, network, vectors.point_views(lower))
    return network


FOLDED = Step(
    name="folded",
    proposal=_proposal,
    words=lambda pairs: f"{len(pairs)} normalisations folded",
    read=lambda pairs: tuple((str(layer), str(norm)) for layer, norm in pairs),
    on_vectors=_on_vectors,
    on_network=_on_network,
    writes_vectors=True,
)
