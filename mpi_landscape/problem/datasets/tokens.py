"""Tokens of a text: its bytes, its characters, or those of a tokenizer in a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.wording import reason, shown

Tokens = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """How texts become numbers.

    Attributes:
        encode: Of a text, without anything at its ends.
        size: Numbers that a token may have, from 0 to size - 1, special ones too.
        ordinary: Those among the first of these that stand for text, from which a random one is drawn.
        mask: What hides a token; None where the tokenizer has nothing for it.
        pad: What fills up a short example, which no network looks at.
        begin: Before an example; none where the tokenizer puts nothing there.
        end: After it, likewise.
    """

    encode: Callable[[str], Tokens]
    size: int
    ordinary: int
    mask: int | None
    pad: int
    begin: tuple[int, ...] = ()
    end: tuple[int, ...] = ()


def tokenizer_of(name: Any, texts: Sequence[str]) -> Tokenizer:
    """The tokenizer that a configuration names; `characters` are those of the texts, sorted.

    Raises:
        LandscapeError: It is neither bytes nor characters nor a folder with a tokenizer of transformers.

    Example:
        >>> tokenizer_of("characters", ["abba"]).encode("ab").tolist()
        [0, 1]
    """
    if name == "bytes":
        return _numbered(256, lambda text: np.frombuffer(text.encode(), dtype=np.uint8).astype(np.int64))
    if name == "characters":
        return _of_characters(texts)
    return _of_folder(name)


def check_tokenizer(name: Any) -> None:
    """Refuse what names no tokenizer, before a text is read."""
    if name in ("bytes", "characters"):
        return
    if not isinstance(name, str) or not Path(name).exists():
        raise LandscapeError(
            f"tokenizer is {shown(name)}; valid are bytes, characters, and a folder or file of a tokenizer of transformers "
            f"(working folder {Path.cwd()})"
        )


def _numbered(size: int, encode: Callable[[str], Tokens]) -> Tokenizer:
    """Two more for what is no text: one that hides a token, and one that fills up."""
    return Tokenizer(encode=encode, size=size + 2, ordinary=size, mask=size, pad=size + 1)


def _of_characters(texts: Sequence[str]) -> Tokenizer:
    known = np.array(sorted(set().union(*texts)))

    def encode(text: str) -> Tokens:
        characters = np.array(list(text), dtype=known.dtype)
        return np.searchsorted(known, characters).astype(np.int64)

    return _numbered(len(known), encode)


def _of_folder(name: str) -> Tokenizer:
    try:
        # Here, as it takes seconds and most data need no tokenizer.
        import transformers
    except ImportError as error:
        raise LandscapeError(
            f"tokenizer {shown(name)} needs transformers ({reason(error)}); pip install 'mpi_landscape[language]'"
        ) from error
    try:
        if Path(name).is_file():
            build: Any = transformers.PreTrainedTokenizerFast
            found: Any = build(tokenizer_file=name)
        else:
            found = transformers.AutoTokenizer.from_pretrained(
                name, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:
        raise LandscapeError(
            f"tokenizer {shown(name)} is none of transformers ({reason(error)[:200]}); nothing of a folder is executed; "
            f"expected one with tokenizer.json or a vocabulary"
        ) from error
    pads = (found.pad_token_id, found.eos_token_id, 0)
    # What stands around nothing.
    around = [int(each) for each in found("")["input_ids"]]
    first = {found.cls_token_id, found.bos_token_id}
    return Tokenizer(
        encode=lambda text: np.array(
            found(text, add_special_tokens=False, verbose=False)["input_ids"], dtype=np.int64
        ),
        size=len(found),
        ordinary=found.vocab_size,
        mask=found.mask_token_id,
        pad=next(each for each in pads if each is not None),
        begin=tuple(each for each in around if each in first),
        end=tuple(each for each in around if each not in first),
    )
