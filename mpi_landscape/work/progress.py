"""One progress bar on a terminal, plain lines at sensible intervals in a file."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import NoReturn, TextIO

from tqdm import tqdm

# In a log file: soon at first, then ever more rarely, but never silent for longer than this.
_SHORTEST, _LONGEST, _GROWTH = 5.0, 120.0, 0.1


class Progress:
    """Shows how much is done, how fast, and when it will be finished; used with `with`.

    Args:
        total: Units in all.
        initial: Units that were done before.
        points_per_unit: What a unit counts in points, for the rate.
        units: What the units are.
        points: What the rate counts.
        shown: Whether to show anything: on one rank only.
        stream: Standard error by default.
    """

    def __init__(
        self,
        total: int,
        *,
        initial: int = 0,
        points_per_unit: float = 1.0,
        units: str = "tiles",
        points: str = "points",
        shown: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        found = stream or sys.stderr
        # A script's own streams may be closed.
        self._stream, self._shown = found, shown and found is not None
        self._terminal = self._shown and found.isatty()
        self._total, self._done, self._initial = total, initial, initial
        self._points = points_per_unit
        self._units, self._rated = units, points
        self._start = self._last = time.monotonic()
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Progress:
        if self._shown and self._terminal:
            form = f"{{percentage:3.0f}}% |{{bar}}| {{n_fmt}}/{{total_fmt}} {self._units}{{postfix}}, {{elapsed}} elapsed, "
            form += "{remaining} left"
            self._bar = tqdm(
                total=self._total,
                initial=self._initial,
                file=self._stream,
                bar_format=form,
                dynamic_ncols=True,
                smoothing=0,
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._shown and self._done > self._initial:
            self._line()

    def advance(self, count: int = 1) -> None:
        """One more unit is done, or several."""
        self._done += count
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._rate():.3g} {self._rated}/s", refresh=False)
            self._bar.update(count)
        elif self._shown:
            now = time.monotonic()
            pause = min(max(_SHORTEST, _GROWTH * (now - self._start)), _LONGEST)
            if now - self._last >= pause and self._done < self._total:
                self._line()
                self._last = now

    @property
    def done(self) -> int:
        """How many units are done."""
        return self._done

    @property
    def total(self) -> int:
        """How many units there are in all, as far as is known."""
        return self._total

    def expect(self, total: int) -> None:
        """There will be another number of units in all."""
        self._total = max(total, self._done)
        if self._bar is not None:
            self._bar.total = self._total

    def say(self, text: str) -> None:
        """A line of the program's output, above the bar where there is one."""
        if self._bar is not None:
            self._bar.clear()
        if sys.stdout is not None:
            with suppress(OSError):
                sys.stdout.write(f"{text}\n")
                sys.stdout.flush()
        if self._bar is not None:
            self._bar.refresh()

    def _rate(self) -> float:
        elapsed = max(time.monotonic() - self._start, 1e-9)
        return (self._done - self._initial) * self._points / elapsed

    def _line(self) -> None:
        elapsed = time.monotonic() - self._start
        new = self._done - self._initial
        left = tqdm.format_interval((self._total - self._done) * elapsed / new) if new else "?"
        with suppress(OSError):
            self._stream.write(
                f"{100 * self._done / self._total:3.0f} %  {self._done} of {self._total} {self._units}  "
                f"{self._rate():.3g} {self._rated}/s  "
                f"{tqdm.format_interval(elapsed)} elapsed  {left} left\n"
            )
            self._stream.flush()
