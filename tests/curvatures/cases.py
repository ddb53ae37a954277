"""Small networks on made-up data, and their Hessian as a whole matrix by another way."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import TensorDataset

NUM_CLASSES, NUM_EXAMPLES = 3, 50


class Convolutional(nn.Module):
    """A convolution, batch normalization with statistics of its own, a shortcut and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(3)
        self.second = nn.Conv2d(3, 3, 3, padding=1)
        self.last = nn.Linear(3, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.tanh(self.norm(self.first(images)))
        hidden = hidden + torch.tanh(self.second(hidden))
        return self.last(hidden.mean(dim=(2, 3)))


class Shared(nn.Module):
    """A weight in two layers, a bias that no training moves, and complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, NUM_CLASSES)
        self.second.weight = self.first.weight
        self.last.bias.requires_grad_(False)
        self.phase = nn.Parameter(torch.randn(NUM_CLASSES, dtype=torch.complex64))

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.tanh(self.second(torch.tanh(self.first(images.flatten(1)))))
        return self.last(hidden) + (self.phase * self.phase).real


def dense_of_shared(model: Shared) -> NDArray[np.float64]:
    """(342, 342) float64, the Hessian of its mean loss by the numbers that are moved, written down once more."""
    images, labels = data()["train"].tensors
    flat, fixed = images.double().flatten(1), model.last.bias.detach().double()
    parts = [model.first.weight, model.first.bias, model.second.bias, model.last.weight]
    numbers = [each.detach().double() for each in parts] + [torch.view_as_real(model.phase.detach()).double()]

    def of(vector: Tensor) -> Tensor:
        pieces = torch.split(vector, [each.numel() for each in numbers])
        weight, one, two, last, phase = (
            piece.view(each.shape) for piece, each in zip(pieces, numbers, strict=True)
        )
        hidden = torch.tanh(torch.tanh(flat @ weight.T + one) @ weight.T + two)
        outputs = hidden @ last.T + fixed + phase[:, 0] ** 2 - phase[:, 1] ** 2
        return nn.functional.cross_entropy(outputs, labels)

    found: NDArray[np.float64] = torch.autograd.functional.hessian(
        of, torch.cat([each.reshape(-1) for each in numbers])
    ).numpy()
    return (found + found.T) / 2


def mlp() -> nn.Module:
    """Of smooth functions, so that finite differences are right, too."""
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(16, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, NUM_CLASSES)
    )


def convolutional() -> nn.Module:
    """With statistics as after some training."""
    torch.manual_seed(6)
    model = Convolutional()
    with torch.no_grad():
        model.norm.running_mean.normal_()
        model.norm.running_var.uniform_(0.5, 2)
        model.norm.weight.uniform_(0.5, 1.5)
    return model.eval()


def data() -> dict[str, TensorDataset]:
    """Images with labels; the last batch of seven is not full."""
    generator = torch.Generator().manual_seed(7)
    images = torch.randn(NUM_EXAMPLES, 1, 4, 4, generator=generator)
    labels = torch.randint(NUM_CLASSES, (NUM_EXAMPLES,), generator=generator)
    return {"train": TensorDataset(images, labels)}


def mean_loss(model: nn.Module, state: dict[str, Tensor]) -> Tensor:
    """Over all of the data, in the type of the parameters."""
    images, labels = data()["train"].tensors
    dtype = next(iter(state.values())).dtype
    buffers = {name: each.to(dtype) for name, each in model.named_buffers() if each.is_floating_point()}
    outputs = functional_call(model, {**buffers, **state}, (images.to(dtype),))
    return nn.functional.cross_entropy(outputs, labels)


def dense(model: nn.Module) -> NDArray[np.float64]:
    """(n, n) float64, the Hessian of the mean loss by all parameters, by torch.autograd.functional."""
    parameters = {name: each.detach().double() for name, each in model.named_parameters()}
    sizes = [each.numel() for each in parameters.values()]

    def of(vector: Tensor) -> Tensor:
        parts = torch.split(vector, sizes)
        state = {
            name: part.view(each.shape) for (name, each), part in zip(parameters.items(), parts, strict=True)
        }
        return mean_loss(model.eval(), state)

    whole = torch.cat([each.reshape(-1) for each in parameters.values()])
    found: NDArray[np.float64] = torch.autograd.functional.hessian(of, whole).numpy()
    return (found + found.T) / 2
