"""Examples of tokens: windows of a text, lines of their own length, and the tokens that a network is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from mpi_landscape.loading.collated import Collated
from mpi_landscape.problem.datasets.given import Rows
from mpi_landscape.problem.datasets.tokens import Tokenizer, Tokens

# What a loss of torch passes over.
IGNORED = -100


class Windows(Rows):
    """Examples of one length, with what a network must be able to take.

    Args:
        nest: Tensors by name, (N, length) each.
        vocabulary: Numbers that a token may have.
    """

    def __init__(self, nest: Mapping[str, Tensor], vocabulary: int) -> None:
        super().__init__(dict(nest))
        self.vocabulary, self.longest = vocabulary, nest["input_ids"].shape[1]


class Lines(Dataset[Any]):
    """Examples of several lengths.

    Args:
        items: Tensors by name.
        vocabulary: As in `Windows`.
    """

    def __init__(self, items: Sequence[Mapping[str, Any]], vocabulary: int) -> None:
        self._items, self.vocabulary = items, vocabulary
        self.longest = max(len(item["input_ids"]) for item in items)

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        return self._items[index]


@dataclass(frozen=True)
class Padded:
    """A collation: every tensor of tokens is filled up at its end to the longest of the batch.

    Attributes:
        pad: What fills input_ids; a mask gets 0, labels what a loss passes over.
    """

    pad: int

    def __call__(self, items: list[Mapping[str, Any]]) -> dict[str, Tensor]:
        """A batch of items."""
        fillings = {"input_ids": self.pad, "attention_mask": 0, "labels": IGNORED}
        return {
            name: torch.nn.utils.rnn.pad_sequence(
                [item[name] for item in items], batch_first=True, padding_value=filling
            )
            if items[0][name].ndim
            else torch.stack([item[name] for item in items])
            for name, filling in fillings.items()
        }


def cut(tokens: Tokens, *, length: int, stride: int, pad: int | None) -> tuple[Tokens, NDArray[np.bool_]]:
    """Windows of a text, and which of their tokens are asked for: each token once, the others being context.

    Args:
        tokens: (n,) int64.
        length: Tokens of a window.
        stride: From the start of one window to the next, at most the length.
        pad: What fills up the last window; None leaves out what does not fill one.

    Returns:
        (N, length) int64 and bool: what fills up is not asked for.

    Example:
        >>> windows, asked = cut(np.arange(7), length=4, stride=2, pad=9)
        >>> windows.tolist()
        [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 9]]
        >>> asked.astype(int).tolist()
        [[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 1, 0]]
    """
    starts = list(range(0, max(0, len(tokens) - length) + 1, stride)) if len(tokens) >= length else []
    reached = starts[-1] + length if starts else 0
    if pad is not None and reached < len(tokens):
        starts.append(starts[-1] + stride if starts else 0)
    windows = np.full((len(starts), length), 0 if pad is None else pad, dtype=np.int64)
    asked = np.zeros(windows.shape, dtype=bool)
    for row, start in enumerate(starts):
        part = tokens[start : start + length]
        windows[row, : len(part)] = part
        asked[row, (length - stride if row else 0) : len(part)] = True
    return windows, asked


def masked(
    tokens: Tokens, asked: NDArray[np.bool_], tokenizer: Tokenizer, *, share: float, seed: Sequence[int]
) -> tuple[Tokens, Tokens]:
    """Hide some tokens of an example, and ask for these.

    Source: Devlin, Chang, Lee and Toutanova (2019), "BERT", arXiv:1810.04805, section 3.1, task 1: of the tokens each
    is chosen with a probability, and becomes the mask (80 %), a random token (10 %) or stays (10 %). Unlike there,
    at least one token of an example is chosen, as a loss of none is not defined.

    Args:
        tokens: (n,) int64.
        asked: (n,) which may be hidden.
        tokenizer: Has the mask.
        share: The probability.
        seed: Decides, and nothing else does.

    Returns:
        (n,) int64 the tokens and the labels.
    """
    # Raw bits: NumPy promises to keep those (NEP 19), not what it makes of them.
    bits = np.random.PCG64(np.random.SeedSequence(list(seed))).random_raw(3 * len(tokens)).reshape(3, -1)
    choice, kind, other = (bits >> np.uint64(11)) * 2.0**-53
    chosen = asked & (choice < share)
    if asked.any() and not chosen.any():
        chosen[np.argmin(np.where(asked, choice, np.inf))] = True
    changed = np.where(
        kind < 0.8,
        np.int64(tokenizer.mask or 0),
        np.where(kind < 0.9, np.floor(other * tokenizer.ordinary).astype(np.int64), tokens),
    )
    return np.where(chosen, changed, tokens), np.where(chosen, tokens, IGNORED)


def padded(items: Sequence[Mapping[str, Any]], tokenizer: Tokenizer) -> Collated:
    """Lines as a data set that makes its own batches."""
    return Collated(Lines(items, tokenizer.size), Padded(tokenizer.pad))
