"""The networks by name, and the one way to build a network from a configuration."""

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mpi_landscape.configuration.sections.sources import ModelConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.networks.convolutional import alexnet, cnn, cnn1d, vgg9
from mpi_landscape.problem.networks.densenet import densenet
from mpi_landscape.problem.networks.hugging_face import hugging_face_network
from mpi_landscape.problem.networks.libraries import timm_network, torchvision_network
from mpi_landscape.problem.networks.perceptron import linear, mlp
from mpi_landscape.problem.networks.product import product
from mpi_landscape.problem.networks.resnet import resnet
from mpi_landscape.problem.networks.transformer_classes import new_network
from mpi_landscape.problem.targets import call, invoke
from mpi_landscape.wording import listed, shown, suggestion

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    each.__name__: each for each in (linear, mlp, resnet, densenet, vgg9, alexnet, cnn, cnn1d, product)
}
LIBRARIES: dict[str, Callable[..., nn.Module]] = {
    "torchvision": torchvision_network,
    "timm": timm_network,
    "hub": hugging_face_network,
}

# Names that say some of the arguments, and the network that takes them. A wide network of Li et al. (2018),
# arXiv:1712.09913, section 6, is a residual network with k times as many filters.
_PATTERNS = {
    re.compile(r"resnet(?P<depth>[0-9]{1,6})(?P<noshort>_noshort)?"): "resnet",
    re.compile(r"wrn(?P<depth>[0-9]{1,6})_(?P<widening>[0-9]{1,3})(?P<noshort>_noshort)?"): "resnet",
    re.compile(r"densenet(?P<depth>[0-9]{1,6})"): "densenet",
    re.compile(r"cnn(?P<noshort>_noshort)"): "cnn",
    re.compile(r"product(?P<factors>[0-9]{1,6})"): "product",
}
_RESIDUAL = (*(f"resnet{depth}" for depth in (20, 32, 44, 56, 110)), "wrn56_2", "wrn56_4", "wrn56_8", "cnn")
_SHORTCUTS = tuple(f"{name}{end}" for name in _RESIDUAL for end in ("", "_noshort"))
_NAMES = (*NETWORKS, *_SHORTCUTS, "densenet121", "product1", "product2")


def build_network(configuration: ModelConfiguration, *, where: str, folders: Sequence[Path]) -> nn.Module:
    """Build the network that a configuration names, with its initial parameters: the checkpoint is not read.

    A name is one of `NETWORKS`, one that says some of their arguments (`resnet56_noshort`, `wrn56_2`, ...),
    `torchvision/<model>`, `timm/<model>`, `hub/<folder or name>` or `hub`; `where` and `folders` are as in `problem.build.build`.

    Raises:
        LandscapeError: The name is unknown, an argument is not valid, or a target cannot be called or returns
            something else.
    """
    section = f"{where}: model"
    if configuration.target is None:
        return _named(str(configuration.name), configuration.arguments, section)
    network = call(configuration.target, configuration.arguments, where=section, folders=folders)
    if isinstance(network, nn.Module):
        return network
    raise LandscapeError(
        f"{section}.target {shown(configuration.target)}: returned {shown(network)} of type "
        f"{type(network).__name__}; expected a torch.nn.Module"
    )


def brings_weights(configuration: ModelConfiguration) -> bool:
    """Whether a network comes with parameters that somebody has trained; of a target's that is not known."""
    if configuration.target is not None:
        return False
    library, arguments = str(configuration.name).partition("/")[0], configuration.arguments
    return {
        "hub": str(configuration.name) != "hub" and arguments.get("pretrained", True) is True,
        "timm": arguments.get("pretrained") is True,
        "torchvision": arguments.get("weights") is not None,
    }.get(library, False)


def _named(name: str, arguments: dict[str, Any], section: str) -> nn.Module:
    constructor, fixed, general = _found(name, section)
    twice = [argument for argument in fixed if argument in arguments]
    if twice:
        raise LandscapeError(
            f"{section}.arguments: {twice[0]} is said by the name {name} already; use the name {general}"
        )
    network: nn.Module = invoke(constructor, {**fixed, **arguments}, where=section, called=name)
    return network


def _found(name: str, section: str) -> tuple[Callable[..., nn.Module], dict[str, Any], str]:
    """A name's constructor, the arguments that the name says, and the name that leaves them open."""
    library, slash, model = name.partition("/")
    if slash and library in LIBRARIES:
        return functools.partial(LIBRARIES[library], model), {}, name
    if name in NETWORKS:
        return NETWORKS[name], {}, name
    if name == "hub":  # without a name: one of transformers' types, made anew
        return new_network, {}, name
    for pattern, general in _PATTERNS.items():
        match = pattern.fullmatch(name)
        if match:
            return NETWORKS[general], _said(match.groupdict()), general
    raise LandscapeError(
        f"{section}.name is {shown(name)}; valid names are {listed(NETWORKS)}, resnet<6n+2> (resnet56, ...), "
        "wrn<6n+2>_<k> (wrn56_2, ...), each of these two and cnn also with _noshort, densenet121, product<n>, "
        f"{listed(f'{each}/<model>' for each in LIBRARIES)}, hub{suggestion(name, _NAMES)}"
    )


def _said(groups: dict[str, str | None]) -> dict[str, Any]:
    """The parts of a name as arguments."""
    said: dict[str, Any] = {part: int(groups[part] or 0) for part in ("depth", "factors") if part in groups}
    if "widening" in groups:
        said["width"] = 16 * int(groups["widening"] or 0)
    if groups.get("noshort"):
        said["shortcut"] = "none"
    return said
