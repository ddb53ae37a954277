"""Data sets that every test of this room may use."""

import numpy as np
import pytest
import torch

CPU = torch.device("cpu")


class Recorded(torch.utils.data.Dataset):
    """Items that remember in which order they were asked for."""

    def __init__(self, items):
        self.items, self.asked = items, []

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.items[index]


class Pictures(torch.utils.data.Dataset):
    """Images as bytes, (value / 255 - 0.4) / 0.3, with `stored` and `finish`."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return (self.images[index].float() / 255 - 0.4) / 0.3, self.labels[index]

    def stored(self):
        return self.images, self.labels

    def finish(self, examples):
        images, labels = examples
        return (images.float() / 255 - 0.4) / 0.3, labels


def make_pictures(count=11, *, channels=2, height=5, width=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, channels, height, width), generator=generator, dtype=torch.uint8)
    return Pictures(images, torch.randint(3, (count,), generator=generator))


def make_regression(count=7, seed=0):
    generator = np.random.default_rng(seed)
    return Recorded([(generator.normal(size=3), generator.normal()) for _ in range(count)])


def make_classification(count=7):
    generator = torch.Generator().manual_seed(1)
    return Recorded([(torch.randn(3, generator=generator), index % 2) for index in range(count)])


@pytest.fixture
def pictures():
    return make_pictures


@pytest.fixture
def regression():
    return make_regression


@pytest.fixture
def classification():
    return make_classification


@pytest.fixture
def recorded():
    return Recorded
