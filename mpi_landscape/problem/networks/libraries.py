"""Models of libraries, by name: torchvision's for classification, and timm's, where timm is installed."""

from enum import Enum
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.checkpoints import check_harmless, load_state, read_state
from mpi_landscape.problem.sizes import checked_count
from mpi_landscape.wording import listed, reason, shown, suggestion

# timm reads these files itself, and not every release refuses code in them.
_OF_FILES = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay")


def torchvision_network(
    name: str, /, *, weights: str | None = None, download: bool = False, **arguments: Any
) -> nn.Module:
    """Build a classification model of torchvision; it takes images as its weights' transforms prepare them.

    Args:
        name: As in `torchvision.models.list_models(module=torchvision.models)`, such as "mobilenet_v2".
        weights: "DEFAULT" or another name of the weights that torchvision publishes for the model, such as
            "IMAGENET1K_V1"; or a file with a state dictionary; None leaves the random initial parameters.
        download: Whether published weights that are not in torch.hub's cache may be fetched.
        **arguments: What the model's own constructor takes, such as num_classes.

    Raises:
        LandscapeError: The name or the weights are unknown, absent or not loadable without running code of
            the file, or another argument is not valid.
    """
    # Here, as it takes a second and most networks do not need it.
    from torchvision import models

    names = models.list_models(module=models)
    if name not in names:
        raise LandscapeError(
            f"name is {shown(f'torchvision/{name}')}; torchvision has no such classification model"
            f"{suggestion(name, names)}; torchvision.models.list_models() lists them"
        )
    if not isinstance(download, bool):
        raise LandscapeError(f"download is {shown(download)}; expected true or false")
    if "num_classes" in arguments:
        # torchvision builds a network without outputs, too.
        checked_count(arguments["num_classes"], "num_classes")
    if weights is None:
        return _built(models, name, None, arguments)
    published = _published(models.get_model_weights(name), weights)
    if published is None:
        network = _built(models, name, None, arguments)
        load_state(network, read_state(weights), where=weights)
        return network
    _ensure_cached(published, download)
    return _built(models, name, published, arguments)


def timm_network(name: str, /, **arguments: Any) -> nn.Module:
    """Build a model of timm with what `timm.create_model` takes, such as num_classes and in_chans.

    A name is one of `timm.list_models()`, such as "resnet18" or, with the tag of its weights,
    "resnet18.a1_in1k"; `pretrained: true` takes the weights from the cache of the Hugging Face hub, or
    fetches them.

    Raises:
        LandscapeError: timm is not installed or has no such model, or is to read a file by itself.
    """
    try:
        import timm
    except ImportError as error:
        raise LandscapeError(
            f"name {shown(f'timm/{name}')} needs timm ({reason(error)}); pip install timm"
        ) from error
    if not timm.is_model(name):
        raise LandscapeError(
            f"name is {shown(f'timm/{name}')}; timm {timm.__version__} has no such model"
            f"{suggestion(name, timm.list_models())}; timm.list_models() lists them"
        )
    foreign = next((each for each in _OF_FILES if each in arguments), None)
    if foreign is not None:
        raise LandscapeError(
            f"arguments.{foreign} would have timm read a file in its own way; give the file as model.checkpoint"
        )
    network: nn.Module = timm.create_model(name, **arguments)
    return network


def _built(models: Any, name: str, weights: Enum | None, arguments: dict[str, Any]) -> nn.Module:
    network: nn.Module = models.get_model(name, weights=weights, progress=False, **arguments)
    return network


def _published(known: Any, weights: str) -> Any:
    """Find published weights by name; None if a file is meant."""
    if not isinstance(weights, str):
        raise LandscapeError(f"weights is {shown(weights)}; expected DEFAULT, another name, or a file")
    names = list(known.__members__)
    if weights in names:
        return known[weights]
    if Path(weights).exists() or Path(weights).suffix or "/" in weights:
        return None
    raise LandscapeError(
        f"weights is {shown(weights)}; valid are {listed(names)}, or a file{suggestion(weights, names)}"
    )


def _ensure_cached(weights: Any, download: bool) -> None:
    """See to it that torchvision will find weights on disk, and that loading them runs no code."""
    # Where and under which name torch.hub.load_state_dict_from_url looks.
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if not cached.exists():
        if not download:
            raise LandscapeError(
                f"weights {weights} are not at {cached}; set arguments.download: true, or put {weights.url} there"
            )
        try:
            weights.get_state_dict(progress=False, check_hash=True)
        # urllib, http, ssl, the hash and the disk each have exceptions of their own.
        except Exception as error:
            raise LandscapeError(
                f"weights {weights} cannot be fetched from {weights.url} ({reason(error)}); "
                f"offline, put the file at {cached}"
            ) from error
    # torchvision would unpickle anything; what this accepts is only tensors.
    check_harmless(cached)
