"""A GPT-2 on texts of several lengths: the mean over tokens, as it is trained."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import mpi_landscape

torch.manual_seed(0)
texts = [torch.randint(1, 40, (length,)) for length in [4, 11, 6, 16, 9] * 4]
model = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_positions=16, n_embd=24, n_layer=2, n_head=2)).eval()


def collate(batch):
    input_ids = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True)
    labels = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=-100)
    return {"input_ids": input_ids, "attention_mask": (labels != -100).long(), "labels": labels}


surface = mpi_landscape.landscape(
    model, "output", texts, collate_fn=collate, alpha=(-1, 1, 3), beta=(-1, 1, 3), output="surface.h5"
)


def plain(model):
    total, tokens = 0.0, 0
    for text in texts:
        total += model(text[None], labels=text[None]).loss * (len(text) - 1)
        tokens += len(text) - 1
    return total / tokens
