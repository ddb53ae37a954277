"""Batch normalization's running statistics, made anew of the data: the population's where the network is now.

A network's running statistics belong to the parameters with which they were gathered. Elsewhere, on a line between two
solutions say, activations have other means and variances, and what a network with the old ones loses is mostly that. The
meaning is that of `torch.optim.swa_utils.update_bn` (Izmailov et al. 2018, arXiv:1803.05407, section 3.2): every batch is
normalized by its own mean and variance, and these are averaged over all batches alike; so are those of an instance
normalization that keeps statistics. Other modules, dropout among them, stay in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

# The class from which torch's batch and instance normalizations are derived; torch has no public name for it.
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.filters import is_normalization

# Of one module: running mean and variance in float64.
Moments = tuple[Tensor, Tensor]
_STATISTICS = ("running_mean", "running_var")


def normalizations(network: nn.Module) -> dict[str, _NormBase]:
    """The modules with running statistics, by name.

    Raises:
        LandscapeError: One is not of torch's classes, so nobody knows how it gathers them.

    Example:
        >>> list(normalizations(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.LayerNorm(3))))
        ['1']
    """
    found = {}
    for name, module in network.named_modules():
        own = dict(module.named_buffers(recurse=False))
        if not any(each in own for each in _STATISTICS):
            continue
        if isinstance(module, _NormBase) and module.num_batches_tracked is not None:
            found[name] = module
        elif is_normalization(module) and not _is_frozen(module):
            raise LandscapeError(
                f"compute.batch_norm: recomputed: {name or 'the network'} is a {type(module).__name__} with running statistics "
                f"that it gathers in a way of its own; valid are torch.nn's normalizations and classes derived from them, or "
                f"stored or interpolated"
            )
    return found


def _is_frozen(module: nn.Module) -> bool:
    """Whether its statistics are constants on purpose, as those of torchvision's and detectron2's frozen batch norms."""
    return "frozen" in type(module).__name__.lower()


@contextmanager
def gathering(modules: Iterable[_NormBase]) -> Iterator[None]:
    """These modules in training mode, averaging over what they see from now on; mode and momentum are afterwards as before."""
    before = [(module, module.training, module.momentum) for module in modules]
    try:
        for module, _, _ in before:
            # Without a momentum batch normalizations average over a pass; others know no such thing, and keep the last.
            module.training, module.momentum = True, None if isinstance(module, _BatchNorm) else 1.0
        yield
    finally:
        for module, training, momentum in before:
            module.training, module.momentum = training, momentum


def forget(modules: Iterable[_NormBase]) -> None:
    """Begin anew, before a batch."""
    for module in modules:
        module.reset_running_stats()


def seen(modules: Sequence[_NormBase]) -> list[Moments | None]:
    """What each module has gathered since `forget`, in float64; None of one that the batch did not reach."""
    found: list[Moments | None] = []
    for module in modules:
        mean, variance = module.running_mean, module.running_var
        if mean is None or variance is None or not _is_reached(module, mean, variance):
            found.append(None)
        else:
            found.append((mean.to(torch.float64, copy=True), variance.to(torch.float64, copy=True)))
    return found


def _is_reached(module: _NormBase, mean: Tensor, variance: Tensor) -> bool:
    """Whether a batch has come to a module since `forget`."""
    count = module.num_batches_tracked
    if isinstance(module, _BatchNorm):
        return count is not None and int(count) > 0
    # These do not count.
    return bool((mean != 0).any() or (variance != 1).any())


def averaged(batches: Sequence[Sequence[Moments | None]]) -> list[Moments | None]:
    """The mean over batches of what modules have gathered, each batch counting alike, added in their order.

    Example:
        >>> one, two = ((torch.tensor([mean], dtype=torch.float64), torch.ones(1)) for mean in (1.0, 4.0))
        >>> averaged([[one], [two]])[0][0].item()
        2.5
    """
    found: list[Moments | None] = []
    for of_module in zip(*batches, strict=True):
        there = [each for each in of_module if each is not None]
        if not there:
            found.append(None)
            continue
        total = [torch.zeros_like(each) for each in there[0]]
        for moments in there:
            for whole, part in zip(total, moments, strict=True):
                whole += part
        mean, variance = (each / len(there) for each in total)
        found.append((mean, variance))
    return found
