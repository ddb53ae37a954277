"""Networks of two parameters whose loss is a potential with known minima and saddles; also a user's own target."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

# Müller and Brown 1979, Theor. Chim. Acta 53, 75: four Gaussians.
_HEIGHTS = torch.tensor([-200.0, -100, -170, 15], dtype=torch.float64)
_XX, _XY, _YY = (
    torch.tensor(each, dtype=torch.float64)
    for each in ([-1.0, -1, -6.5, 0.7], [0.0, 0, 11, 0.6], [-10.0, -10, -6.5, 0.7])
)
_X, _Y = (torch.tensor(each, dtype=torch.float64) for each in ([1.0, 0, -0.5, -1], [0.0, 0.5, 1.5, 1]))
MUELLER_MINIMA = (-0.558223634633024, 1.441725841804669), (0.623499404930877, 0.028037758528686)
MUELLER_SADDLES = (-0.822001558732732, 0.624312802814871), (0.212486582000662, 0.292988325107368)


def double_well(w: Tensor) -> Tensor:
    """Minima of 0 at (±1, 0); the saddle of 1 at (0, 1), in a valley y = 1 − x²; 3 on the straight line between them."""
    x, y = w[..., 0], w[..., 1]
    return (x.square() - 1).square() + 2 * (y - 1 + x.square()).square()


def mueller_brown(w: Tensor) -> Tensor:
    """Two deep minima with a shallow one and two saddles between."""
    x, y = w[..., :1] - _X, w[..., 1:] - _Y
    return (_HEIGHTS * torch.exp(_XX * x * x + _XY * x * y + _YY * y * y)).sum(-1)


def product(w: Tensor) -> Tensor:
    """Zero on both axes, which meet at the origin."""
    return (w[..., 0] * w[..., 1]).square()


POTENTIALS = {"double_well": double_well, "mueller_brown": mueller_brown, "product": product}
ENDS = {
    "double_well": ((-1.0, 0.0), (1.0, 0.0)),
    "mueller_brown": MUELLER_MINIMA,
    "product": ((1.5, 0.0), (0.0, 1.5)),
}


class Particle(nn.Module):
    """Two parameters, in a potential."""

    def __init__(self, potential: str, at: tuple[float, float]) -> None:
        super().__init__()
        self.potential = POTENTIALS[potential]
        self.w = nn.Parameter(torch.tensor(at, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.potential(self.w).expand(len(x))


def particle(potential: str) -> Particle:
    """For `model.target`."""
    return Particle(potential, ENDS[potential][0])


def loss(model: nn.Module, batch: list[Tensor]) -> Tensor:
    """For `loss.target`: the potential itself, whatever the data."""
    return model(batch[0])


def energies(potential: str, points: np.ndarray) -> np.ndarray:
    """(n,), of (n, 2) points."""
    return POTENTIALS[potential](torch.as_tensor(points)).numpy()
