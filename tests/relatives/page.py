"""The table as a page."""

from __future__ import annotations

from collections.abc import Sequence

from tests.relatives.judging import Outcome
from tests.relatives.table import KINDS

PAGE = "docs/relatives.md"
_INTRODUCTION = """# Right or refused

A network, a loss or a data set gives the right number here, or one line that says why not; none gives a wrong number in
silence. Each row is a small problem of a kind that people have, mostly with about a hundred examples in batches of 16 and on two
threads, and what became of it: the largest error of a value over the whole grid, relative to the value or to the mean where that
is larger, or the words of the refusal. Right is the user's own network, built anew for every point and moved in place, in one
thread, the loss called on the data in order; where no such value exists, a refusal is the answer. A few rows may be refused for
the reason that they give. `python -m tests.relatives --write` computes the table and writes this page.
"""


def page(outcomes: Sequence[Outcome]) -> str:
    """The page, in Markdown."""
    good = sum(each.good for each in outcomes)
    refused = sum(each.found == "refused" for each in outcomes)
    lines = [
        _INTRODUCTION,
        f"{len(outcomes)} problems: {good} as they should be, of which {refused} are refused.\n",
    ]
    for kind in KINDS:
        rows = [each for each in outcomes if each.case.kind == kind.KIND]
        if rows:
            lines += [
                f"## {kind.KIND}. {_capital(kind.TITLE)}\n",
                "| problem | outcome | largest error | |",
                "| --- | --- | --- | --- |",
            ]
            lines += [_row(each) for each in rows] + [""]
    return "\n".join(lines).rstrip() + "\n"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _row(outcome: Outcome) -> str:
    error = "" if outcome.error is None else f"{outcome.error:.0e}"
    words = outcome.words
    if outcome.found == "refused":
        words = f"`{_short(words)}`" + (f" ({outcome.case.because})" if outcome.case.because else "")
    found = outcome.found if outcome.good else f"**{outcome.found}**"
    return f"| {_cell(outcome.case.what)} | {found} | {error} | {_cell(words)} |"


def _short(text: str, most: int = 160) -> str:
    text = text.replace("`", "'")
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
