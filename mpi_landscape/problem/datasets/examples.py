"""What a language model is asked for: windows or lines of texts as examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.datasets.tokens import Tokenizer, Tokens, check_tokenizer, tokenizer_of
from mpi_landscape.problem.datasets.variants import read_limit
from mpi_landscape.problem.datasets.windows import IGNORED, Windows, cut, masked, padded
from mpi_landscape.problem.sizes import checked_count, is_count, is_number
from mpi_landscape.wording import listed, shown, suggestion

_TASKS, _UNITS, _REMAINDERS = ("causal", "masked", "classification"), ("window", "line"), ("drop", "pad")
_SPLITS = ("train", "test")
_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How a text becomes examples; the attributes are the arguments of `read_reading`."""

    tokenizer: str
    task: str
    by: str
    length: int
    stride: int
    remainder: str
    test: float
    mask: float
    seed: int
    limit: Mapping[str, int]


def read_reading(
    *,
    tokenizer: str = "bytes",
    task: str = "causal",
    by: str = "window",
    length: int = 128,
    stride: int | None = None,
    remainder: str = "drop",
    test: float = 0.1,
    mask: float = 0.15,
    seed: int = 1,
    limit: int | Mapping[str, int] | None = None,
) -> Reading:
    """Check the arguments of all texts, before one is read.

    Args:
        tokenizer: A folder or file of a tokenizer of transformers; "bytes"; or "characters", those of the text. The last two
            have two more numbers than kinds of tokens, for a mask and for padding.
        task: "causal", every token but the first of an example is asked for; "masked", some are hidden, see
            `windows.masked`; or "classification", of lines that begin with a label and a tab.
        by: "window", the texts one after another in windows of one length; or "line", each line with a length of its own,
            padded to the longest of a batch. Lines without tokens to ask for are left out.
        length: Tokens of a window, or the most of a line, which is cut there.
        stride: From one window to the next; the length unless given. A smaller one gives tokens more context, and each is
            asked for once.
        remainder: "drop" leaves out the tokens at the end that do not fill a window, "pad" fills the window up.
        test: Share of the text at its end that is split test, or of the lines, drawn by the seed; 0 for none.
        mask: Probability that a token is hidden, of the task masked.
        seed: Decides what is drawn.
        limit: Most examples of every split, or a mapping of split names to such: the first ones.

    Raises:
        LandscapeError: An argument is not valid.
    """
    check_tokenizer(tokenizer)
    for name, value, valid in (
        ("task", task, _TASKS),
        ("by", by, _UNITS),
        ("remainder", remainder, _REMAINDERS),
    ):
        if value not in valid:
            raise LandscapeError(
                f"{name} is {shown(value)}; valid are {listed(valid)}{suggestion(str(value), valid)}"
            )
    checked_count(length, "length")
    if stride is not None and (not is_count(stride) or stride > length):
        raise LandscapeError(
            f"stride is {shown(stride)}; expected a whole number from 1 to the length, {length}"
        )
    if task == "classification" and by != "line":
        raise LandscapeError("task is classification, which is of lines; expected by: line")
    for name, share in (("test", test), ("mask", mask)):
        if not is_number(share) or not 0 <= share < 1:
            raise LandscapeError(f"{name} is {shown(share)}; expected a share of at least 0 and below 1")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= _LARGEST_SEED:
        raise LandscapeError(f"seed is {shown(seed)}; expected a whole number of at least 0 (63 bits)")
    return Reading(
        tokenizer=tokenizer,
        task=task,
        by=by,
        length=length,
        stride=stride or length,
        remainder=remainder,
        test=float(test),
        mask=float(mask),
        seed=seed,
        limit=read_limit(limit, _SPLITS[: 2 if test else 1]),
    )


def examples_of(texts: Sequence[str], reading: Reading) -> dict[str, Any]:
    """The splits of texts.

    Raises:
        LandscapeError: The tokenizer does not fit the task, or a split has no example.
    """
    tokenizer = tokenizer_of(reading.tokenizer, texts)
    if reading.task == "masked" and tokenizer.mask is None:
        raise LandscapeError(
            f"tokenizer {shown(reading.tokenizer)} has no mask, which task masked needs; expected one that has"
        )
    room = len(tokenizer.begin) + len(tokenizer.end) if reading.task != "causal" else 0
    if reading.length <= room + (reading.task == "causal"):
        raise LandscapeError(
            f"length is {reading.length}; expected at least {room + 2}, as examples have ends"
        )
    make = _lines if reading.by == "line" else _windows
    splits: dict[str, Any] = {}
    for number, split in enumerate(_SPLITS[: 2 if reading.test else 1]):
        splits[split] = make(texts, tokenizer, reading, split, number)
    return splits


def _windows(
    texts: Sequence[str], tokenizer: Tokenizer, reading: Reading, split: str, number: int
) -> Windows:
    tokens = np.concatenate([tokenizer.encode(each) for each in texts])
    begin, end = ((), ()) if reading.task == "causal" else (tokenizer.begin, tokenizer.end)
    inner = reading.length - len(begin) - len(end)
    border = round(len(tokens) * (1 - reading.test))
    part = tokens[border:] if number else tokens[:border]
    most = reading.limit.get(split)
    if most is not None:
        part = part[: (most - 1) * reading.stride + inner]
    pad = tokenizer.pad if reading.remainder == "pad" else None
    windows, asked = cut(part, length=inner, stride=min(reading.stride, inner), pad=pad)
    if not len(windows):
        raise LandscapeError(
            f"split {split} has {len(part)} tokens, fewer than a window of {inner}; expected a longer text, a shorter length, "
            f"or remainder: pad"
        )
    windows, asked = windows[:most], asked[:most]
    rows = [
        _example(row, wanted, real, tokenizer, reading, (reading.seed, number, index))
        for index, (row, wanted, real) in enumerate(
            zip(windows, asked, _real(part, windows, reading), strict=True)
        )
    ]
    return Windows({name: torch.stack([row[name] for row in rows]) for name in rows[0]}, tokenizer.size)


def _real(part: Tokens, windows: Tokens, reading: Reading) -> list[int]:
    """How many tokens of each window are of the text."""
    inner = windows.shape[1]
    return [min(inner, len(part) - row * min(reading.stride, inner)) for row in range(len(windows))]


def _lines(texts: Sequence[str], tokenizer: Tokenizer, reading: Reading, split: str, number: int) -> Any:
    lines = [line for each in texts for line in each.splitlines() if line.strip()]
    labels: list[int | None] = [None] * len(lines)
    if reading.task == "classification":
        lines, labels = _labelled(lines)
    # Lines may be sorted, by label perhaps.
    order = np.argsort(np.random.PCG64(reading.seed).random_raw(len(lines)), kind="stable")
    held_out = set(order[: round(len(lines) * reading.test)].tolist())
    kept = [index for index in range(len(lines)) if (index in held_out) == bool(number)]
    items = []
    for index in kept:
        tokens = tokenizer.encode(lines[index])
        # Of one token nothing can be asked causally, of none nothing at all.
        if len(tokens) <= (reading.task == "causal"):
            continue
        room = len(tokenizer.begin) + len(tokenizer.end) if reading.task != "causal" else 0
        tokens = tokens[: reading.length - room]
        asked = np.ones(len(tokens), dtype=bool)
        item = _example(tokens, asked, len(tokens), tokenizer, reading, (reading.seed, number, index))
        if labels[index] is not None:
            item["labels"] = torch.tensor(labels[index])
        items.append(item)
        if len(items) == reading.limit.get(split):
            break
    if not items:
        raise LandscapeError(f"split {split} has no line with tokens to ask for; expected a longer text")
    return padded(items, tokenizer)


def _labelled(lines: Sequence[str]) -> tuple[list[str], list[int | None]]:
    """Lines without their labels, and these numbered in their order."""
    parts = [line.partition("\t") for line in lines]
    bad = next((number for number, (_, tab, _) in enumerate(parts) if not tab), None)
    if bad is not None:
        raise LandscapeError(
            f"line {bad + 1} of those that are not empty has no tab; task classification expects a label, a tab and the text"
        )
    names = sorted({label for label, _, _ in parts})
    numbers = {name: number for number, name in enumerate(names)}
    return [line for _, _, line in parts], [numbers[label] for label, _, _ in parts]


def _example(
    tokens: Tokens,
    asked: Any,
    real: int,
    tokenizer: Tokenizer,
    reading: Reading,
    seed: Sequence[int],
) -> dict[str, Any]:
    """One example: its tokens, which of them are of the text, and what is asked for."""
    mask = np.arange(len(tokens)) < real
    if reading.task == "masked":
        tokens, labels = masked(tokens, asked, tokenizer, share=reading.mask, seed=seed)
    else:
        labels = np.where(asked, tokens, IGNORED)
    if reading.task != "causal":
        begin, end = tokenizer.begin, tokenizer.end
        # What fills up stands behind the end.
        tokens = np.concatenate([begin, tokens[:real], end, tokens[real:]]).astype(np.int64)
        labels = np.concatenate(
            [[IGNORED] * len(begin), labels[:real], [IGNORED] * len(end), labels[real:]]
        ).astype(np.int64)
        mask = np.arange(len(tokens)) < real + len(begin) + len(end)
    return {
        "input_ids": torch.from_numpy(tokens.copy()),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)),
        "labels": torch.from_numpy(labels.copy()),
    }
