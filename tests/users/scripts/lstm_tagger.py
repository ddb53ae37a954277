"""An LSTM that labels every word, arrays of numpy, cross-entropy with words that do not count."""

import numpy as np
import torch
from torch import nn

import mpi_landscape

rng = np.random.default_rng(0)
words, tags = rng.integers(0, 30, (40, 9)), rng.integers(0, 4, (40, 9))
tags[rng.random(tags.shape) < 0.3] = -100


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.lstm, self.head = (
            nn.Embedding(30, 8),
            nn.LSTM(8, 12, batch_first=True),
            nn.Linear(12, 4),
        )

    def forward(self, words):
        return self.head(self.lstm(self.embedding(words))[0]).transpose(1, 2)


torch.manual_seed(0)
model = Tagger()
criterion = nn.CrossEntropyLoss(ignore_index=-100)

surface = mpi_landscape.landscape(
    model, criterion, (words, tags), alpha=(-1, 1, 3), beta=(-1, 1, 3), output="surface.h5"
)


def plain(model):
    return criterion(model(torch.tensor(words)), torch.tensor(tags))
