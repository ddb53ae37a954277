"""The optimizer of a phase."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from mpi_landscape.configuration.sections.training import Phase
from mpi_landscape.errors import LandscapeError


def make_optimizer(parameters: Iterable[nn.Parameter], phase: Phase) -> torch.optim.Optimizer:
    """Make the optimizer of a phase for the parameters that are not frozen.

    "sgd": v ← μ v + g, w ← w − η v, or with Nesterov w ← w − η (g + μ v) (Sutskever et al. 2013); "adam": Kingma and Ba
    2015, arXiv:1412.6980, algorithm 1, with its β₁ = 0.9, β₂ = 0.999 and ε = 1e-8. In both, weight decay λ adds λ w to
    the gradient g.

    Raises:
        LandscapeError: There is no such optimizer, or the network has nothing to train.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise LandscapeError("model: has no parameters that require gradients; there is nothing to train")
    if phase.optimizer == "sgd":
        return torch.optim.SGD(
            trained,
            lr=phase.learning_rate,
            momentum=phase.momentum,
            nesterov=phase.nesterov,
            weight_decay=phase.weight_decay,
        )
    if phase.optimizer == "adam":
        return torch.optim.Adam(trained, lr=phase.learning_rate, weight_decay=phase.weight_decay)
    raise LandscapeError(f"training.optimizer: {phase.optimizer!r} is not known; valid are sgd, adam")
