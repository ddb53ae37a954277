"""Names of tensors that do not depend on what a network is wrapped in."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from mpi_landscape.geometry.filters import owner_path

# Classes that call another network and are nothing themselves, and where they keep it.
_WRAPPERS = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "module",
    "AveragedModel": "module",
    "OptimizedModule": "_orig_mod",
}


def wrapping(model: nn.Module, names: Collection[str]) -> str:
    """What stands in front of the names of all parameters and tells nothing, such as `module.`; empty without it.

    From the network inward: as long as a module has no parameters of its own, and all of them lie in one of its children,
    that child's name is a part of it. So a network has the same names by itself, under `net.` in another module, in a
    `DataParallel` and as `torch.compile` gives it. Where all parameters belong to a single layer, its name is the only one
    that there is: then only wrappers of PyTorch count (`module.` and `_orig_mod.`), and `0.weight` stays `0.weight`.

    Args:
        model: The network.
        names: Of its parameters.

    Example:
        >>> plain = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> around = nn.ModuleDict({"net": nn.Sequential(plain)})
        >>> [wrapping(each, dict(each.named_parameters())) for each in (plain, around, nn.Sequential(nn.Linear(2, 3)))]
        ['', 'net.0.', '']
    """
    paths = {owner_path(name)[0] for name in names}
    several, prefix, module = len(paths) > 1, "", model
    while "" not in paths:
        first = {path.split(".")[0] for path in paths}
        if len(first) > 1:
            break
        (child,) = first or {""}
        if not child or not (several or _is_wrapper(module, child)):
            break
        prefix += f"{child}."
        module = module.get_submodule(child)
        paths = {path.removeprefix(child).removeprefix(".") for path in paths}
    return prefix


def _is_wrapper(module: nn.Module, child: str) -> bool:
    return any(_WRAPPERS.get(kind.__name__) == child for kind in type(module).__mro__)
