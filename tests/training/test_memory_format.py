import copy

import pytest
import torch
from torch import nn

from mpi_landscape.training.memory import in_channels_last, prefers_channels_last


def squares(model, batch):
    return model(batch[0]).flatten(1).square().sum(1)


class Viewing(nn.Module):
    """A `.view` where `.reshape` would do."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Conv2d(3, 4, 3)

    def forward(self, images):
        return self.inner(images).view(len(images), -1)


class ByMemory(Viewing):
    """Numbers in the order in which they lie in memory, each with a weight of its own."""

    def forward(self, images):
        hidden = self.inner(images)
        plain = hidden.as_strided((hidden.numel(),), (1,))
        return (plain * torch.arange(len(plain))).view(len(images), -1)


class ViewingBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, images):
        return images.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient.view(-1).view(gradient.shape)


class Backward(Viewing):
    def __init__(self):
        super().__init__()
        self.outer = nn.Conv2d(4, 2, 2)

    def forward(self, images):
        return self.outer(ViewingBack.apply(self.inner(images)))


IMAGES = torch.rand(3, 3, 5, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("model", "inputs", "answer"),
    [
        pytest.param(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), IMAGES, True, id="usual"),
        pytest.param(nn.Sequential(nn.Flatten(), nn.Linear(90, 2)), IMAGES, False, id="no convolution"),
        pytest.param(nn.Conv2d(3, 4, 3), IMAGES[0], False, id="no batch of images"),
        pytest.param(Viewing(), IMAGES, False, id="raises in the forward pass"),
        pytest.param(Backward(), IMAGES, False, id="raises in the backward pass"),
        pytest.param(ByMemory(), IMAGES, False, id="gives something else"),
        pytest.param(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5)), IMAGES, True, id="compared without dropout"
        ),
    ],
)
def test_channels_go_last_where_that_works_and_changes_nothing(model, inputs, answer):
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():  # as it is when nothing is trained yet
        assert prefers_channels_last(model, squares, [inputs]) is answer
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for parameter in model.parameters():
        assert parameter.is_contiguous()
        assert parameter.grad is None


def test_only_images_are_laid_out_anew():
    batch = {"image": IMAGES, "label": torch.arange(3), "name": ["a", "b", "c"]}
    result = in_channels_last(batch)
    assert torch.equal(result["image"], IMAGES)
    assert result["image"].is_contiguous(memory_format=torch.channels_last)
    assert result["label"] is batch["label"]
    assert result["name"] == ["a", "b", "c"]
