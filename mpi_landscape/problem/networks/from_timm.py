"""The models of timm, by name, where timm is installed."""

from typing import Any

from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import reason, shown, suggestion

# timm reads these files itself, and not every release refuses code in them.
_OF_FILES = ("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay")


def timm_network(name: str, /, **arguments: Any) -> nn.Module:
    """Build a model of timm.

    Args:
        name: As in `timm.list_models()`, such as "resnet18" or, with the tag of its weights,
            "resnet18.a1_in1k".
        **arguments: What `timm.create_model` takes, such as num_classes and in_chans; `pretrained: true` takes the
            weights from the cache of the Hugging Face hub, or fetches them.

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
