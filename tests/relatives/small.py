"""Small networks and data that many cases share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

CLASSES = 3


def mlp(width: int = 8) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, CLASSES))


def vectors(count: int = 90) -> TensorDataset:
    """Inputs (4,), labels."""
    return TensorDataset(torch.randn(count, 4), torch.randint(0, CLASSES, (count,)))


def numbers(count: int = 90) -> TensorDataset:
    """Inputs (4,), targets (1,)."""
    return TensorDataset(torch.randn(count, 4), torch.randn(count, 1))


def tokens(count: int = 90, length: int = 6, words: int = 20) -> TensorDataset:
    return TensorDataset(torch.randint(0, words, (count, length)), torch.randint(0, CLASSES, (count,)))


def cnn(*, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> nn.Sequential:
    """Two convolutions with normalizations, whose statistics are not those of a new one."""
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), norm(4), nn.ReLU(),
        nn.Conv2d(4, 6, 3, stride=2), norm(6), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, CLASSES),
    )  # fmt: skip
    return stirred(net)


def images(count: int = 60) -> TensorDataset:
    return TensorDataset(torch.randn(count, 1, 8, 8), torch.randint(0, CLASSES, (count,)))


def stirred(net: nn.Module) -> nn.Module:
    """Running statistics, scales and biases of normalizations as a training leaves them."""
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.3)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 1.5)
    for each in net.modules():
        if "Norm" in type(each).__name__ and isinstance(getattr(each, "weight", None), nn.Parameter):
            each.weight.data.uniform_(0.5, 1.5)
    return net


def cross_entropy(model: Any, batch: Any) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def squared(model: Any, batch: Any) -> Tensor:
    return (model(batch[0]) - batch[1]).square().flatten(1).mean(1)


class Items(Dataset):
    """A data set of what a function makes of an index."""

    def __init__(self, item: Callable[[int], Any], count: int = 60) -> None:
        self.item, self.count = item, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return self.item(index)


def net_of(parts: Sequence[tuple[str, Any]], forward: Callable[..., Tensor]) -> nn.Module:
    """A network of named parts (modules, parameters, buffers) and a function `forward(self, x)`."""

    class Net(nn.Module):
        # Not from a closure, which would be a second way to them.
        def __init__(self, parts: Sequence[tuple[str, Any]]) -> None:
            super().__init__()
            for name, part in parts:
                if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                    self.register_buffer(name, part)
                else:
                    setattr(self, name, part)

    Net.forward = forward  # type: ignore[method-assign]
    return Net(parts)
