"""The models of timm, by name, where timm is installed."""

from typing import Any

from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.messages import reason, shown, suggestion


def timm_network(name: str, /, **arguments: Any) -> nn.Module:
    """Build a model of timm.

    Args:
        name: As in ``timm.list_models()``, such as "resnet18" or, with the tag of its weights,
            "resnet18.a1_in1k".
        **arguments: Of ``timm.create_model``, such as num_classes and in_chans; ``pretrained: true`` takes the
            weights from the cache of the Hugging Face hub, or fetches them.

    Returns:
        The network.

    Raises:
        LandscapeError: If timm is not installed or has no such model.
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
    network: nn.Module = timm.create_model(name, **arguments)
    return network
