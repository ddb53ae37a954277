"""Targets of the files here: a small perceptron, and whole numbers as data, which are the same on every machine."""

import os
import time

import torch
from torch import nn


class Perceptron(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(5, 6)
        self.second = nn.Linear(6, 3)

    def forward(self, inputs):
        # Slow while a file is made that is to be stopped in the middle.
        time.sleep(float(os.environ.get("SLEEP", "0")))
        return self.second(torch.tanh(self.first(inputs)))


class Numbers:
    def __init__(self, count, start):
        numbers = torch.arange(start, start + count)
        self.inputs = torch.stack([(numbers * step) % 7 for step in (1, 2, 3, 4, 5)], dim=1).float() - 3
        self.labels = (numbers * numbers) % 3

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.inputs[index], int(self.labels[index])


def data(train=60, test=24):
    return {"train": Numbers(train, 0), "test": Numbers(test, 1000)}
