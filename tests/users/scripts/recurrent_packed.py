"""A GRU over packed sequences of several lengths, from an iterable data set."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
from torch.utils.data import DataLoader, IterableDataset

import mpi_landscape

torch.manual_seed(0)
series = [(torch.randn(length, 3), float(length % 2)) for length in [2, 7, 4, 9, 3, 5] * 6]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(series)


def collate(batch):
    values, targets = zip(*batch)
    lengths = torch.tensor([len(each) for each in values])
    return pad_sequence(values, batch_first=True), lengths, torch.tensor(targets)


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(3, 10, batch_first=True), nn.Linear(10, 1)

    def forward(self, values, lengths):
        packed = pack_padded_sequence(values, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.head(self.gru(packed)[1][0])[:, 0]


model = Classifier()
loader = DataLoader(Stream(), batch_size=10, collate_fn=collate)
surface = mpi_landscape.landscape(
    model, nn.BCEWithLogitsLoss(), loader, alpha=(-1, 1, 3), beta=(-1, 1, 3), output="surface.h5"
)


def plain(model):
    losses = []
    for values, target in series:
        logit = model(values[None], torch.tensor([len(values)]))
        losses.append(nn.functional.binary_cross_entropy_with_logits(logit, torch.tensor([target])))
    return torch.stack(losses).mean()
