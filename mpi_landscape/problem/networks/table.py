"""The networks by name, and the one way to build a network from a configuration."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.messages import listed, shown, suggestion
from mpi_landscape.problem.networks.perceptron import linear, mlp
from mpi_landscape.problem.networks.resnet import resnet
from mpi_landscape.problem.sections.sources import ModelConfiguration
from mpi_landscape.problem.targets import call, invoke

NETWORKS: dict[str, Callable[..., nn.Module]] = {"linear": linear, "mlp": mlp, "resnet": resnet}

_RESNET = re.compile(r"resnet([0-9]{1,6})(_noshort)?")
_NAMES = (*NETWORKS, *(f"resnet{depth}{end}" for depth in (20, 32, 44, 56, 110) for end in ("", "_noshort")))


def build_network(configuration: ModelConfiguration, *, where: str, folders: Sequence[Path]) -> nn.Module:
    """Build the network that a configuration names, with its initial parameters.

    Args:
        configuration: A name of :data:`NETWORKS`, ``resnet<6n+2>`` or ``resnet<6n+2>_noshort``, or a target.
        where: The configuration's file, for messages.
        folders: Where a target's module is looked for, besides the working folder and installed packages.

    Returns:
        The network. The checkpoint is not read.

    Raises:
        LandscapeError: If the name is unknown, the arguments do not fit, or a target cannot be called or
            returns something else.
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


def _named(name: str, arguments: dict[str, Any], section: str) -> nn.Module:
    match = _RESNET.fullmatch(name)
    fixed: dict[str, Any] = {}
    if match:
        fixed = {"depth": int(match[1]), **({"shortcut": "none"} if match[2] else {})}
    elif name not in NETWORKS:
        raise LandscapeError(
            f"{section}.name is {shown(name)}; valid names are {listed(NETWORKS)}, resnet<6n+2> (resnet20, "
            f"resnet56, resnet110, ...) and resnet<6n+2>_noshort{suggestion(name, _NAMES)}"
        )
    twice = [argument for argument in fixed if argument in arguments]
    if twice:
        raise LandscapeError(
            f"{section}.arguments: {twice[0]} is said by the name {name} already; use the name resnet"
        )
    constructor = NETWORKS["resnet" if match else name]
    network: nn.Module = invoke(constructor, {**fixed, **arguments}, where=section, called=name)
    return network
