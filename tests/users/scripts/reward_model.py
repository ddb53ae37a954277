"""A reward model on pairs of answers, of which one is preferred."""

import torch
from torch import nn
from transformers import GPT2Config, GPT2ForSequenceClassification

import mpi_landscape

torch.manual_seed(0)
config = GPT2Config(
    vocab_size=30, n_positions=10, n_embd=16, n_layer=2, n_head=2, num_labels=1, pad_token_id=0
)
model = GPT2ForSequenceClassification(config).eval()
chosen, rejected = torch.randint(1, 30, (24, 10)), torch.randint(1, 30, (24, 10))


def loss(model, batch):
    better, worse = (model(input_ids=each).logits[:, 0] for each in batch)
    return -nn.functional.logsigmoid(better - worse).mean()


surface = mpi_landscape.landscape(
    model, loss, (chosen, rejected), alpha=(-1, 1, 3), beta=(-1, 1, 3), output="surface.h5"
)


def plain(model):
    return loss(model, (chosen, rejected))
