"""A BERT that classifies sentences of several lengths, padded by a tokenizer's collator."""

import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification

import mpi_landscape

torch.manual_seed(0)


class Tokenizer:
    """Pads as a tokenizer of Hugging Face does."""

    def pad(self, items, **_):
        longest = max(len(item["input_ids"]) for item in items)
        padded = [item["input_ids"] + [0] * (longest - len(item["input_ids"])) for item in items]
        mask = [[1] * len(item["input_ids"]) + [0] * (longest - len(item["input_ids"])) for item in items]
        found = {"input_ids": padded, "attention_mask": mask, "labels": [item["labels"] for item in items]}
        return {name: torch.tensor(values) for name, values in found.items()}


sentences = [
    {"input_ids": torch.randint(1, 50, (length,)).tolist(), "labels": length % 3}
    for length in [3, 9, 5, 12, 4, 7] * 5
]
config = BertConfig(
    vocab_size=50,
    hidden_size=24,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    num_labels=3,
)
model = BertForSequenceClassification(config).eval()
loader = DataLoader(sentences, batch_size=8, shuffle=True, collate_fn=Tokenizer().pad)

surface = mpi_landscape.landscape(
    model, "output", loader, alpha=(-1, 1, 3), beta=(-1, 1, 3), output="surface.h5"
)


def plain(model):
    losses = [model(**Tokenizer().pad([sentence])).loss for sentence in sentences]
    return torch.stack(losses).mean()
