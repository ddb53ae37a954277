"""Curves of a training history: what is drawn of each quantity, in which panels, and where a rule stands."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.storage.history.records import History
from plotting.picture.levels import drawable
from plotting.picture.quantities import is_accuracy, label_of

# More often than this the rate follows a smooth schedule, and rules would be a curtain.
_MAX_RULES = 12


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One panel and the quantities in it, as the file names them."""

    name: str
    quantities: tuple[str, ...]

    @property
    def is_percent(self) -> bool:
        """Whether fractions are written in percent."""
        return self.name == "error"

    @property
    def is_step(self) -> bool:
        """Whether a value holds from the epoch before to its own."""
        return self.name == "learning rate"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One quantity of one history as it is drawn.

    Attributes:
        quantity: Its name in the file.
        epoch: (n,) int64, ascending.
        value: (n,) float64: losses in nats per example, errors (1 - accuracy) as fractions; NaN interrupts the curve
            where the result is infinite.
    """

    quantity: str
    epoch: NDArray[np.int64]
    value: NDArray[np.float64]

    @property
    def results(self) -> NDArray[np.float64]:
        """(m,) float64: the finite values."""
        return self.value[np.isfinite(self.value)]


def panel_of(quantity: str) -> str:
    """The name of the panel that a quantity belongs to."""
    if is_accuracy(quantity):
        return "error"
    return "loss" if quantity.endswith("_loss") else label_of(quantity)


def panels_of(histories: Sequence[History], asked: Sequence[str] = ()) -> list[Panel]:
    """The panels of a figure, from top to bottom, at least one.

    They have the quantities asked for, or all that any history knows but the duration.
    """
    names = list(dict.fromkeys(name for history in histories for name in history.values))
    known = [name for name in names if any(len(curve_of(history, name).epoch) for history in histories)]
    wanted = asked or [name for name in known if name != "seconds"]
    groups: dict[str, list[str]] = {}
    for name in ("loss", "error", "weight norm", "learning rate", "seconds"):
        groups[name] = [quantity for quantity in names if quantity in wanted and panel_of(quantity) == name]
    found = [Panel(name=name, quantities=tuple(members)) for name, members in groups.items() if members]
    return found or [Panel(name="loss", quantities=tuple(n for n in names if panel_of(n) == "loss"))]


def curve_of(history: History, quantity: str) -> Curve:
    """One quantity of a history at the epochs in which it was looked at, which may be none."""
    raw = history.values.get(quantity)
    if raw is None:
        return Curve(quantity=quantity, epoch=history.epoch[:0], value=np.empty(0))
    keep = history.done & ~np.isnan(raw)
    if quantity == "learning_rate":
        keep &= history.epoch > 0
    epoch, value = history.epoch[keep], drawable(raw[keep])
    if quantity == "learning_rate" and len(epoch):
        # The rate of an epoch holds from the end of the one before.
        epoch, value = np.concatenate([[epoch[0] - 1], epoch]), np.concatenate([value[:1], value])
    if is_accuracy(quantity):
        value = 1 - value
    return Curve(quantity=quantity, epoch=epoch, value=np.where(np.isfinite(value), value, np.nan))


def rules_of(history: History) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """After which epochs the learning rate was lowered, and after which a phase began, both ascending.

    A rate that changes because a phase begins is told by the phase alone, and a smooth schedule not at all.
    """
    rows = np.flatnonzero(history.done & (history.epoch > 0))
    phase, rate = history.phase[rows], history.values["learning_rate"][rows]
    before = history.epoch[rows[1:]] - 1
    begun = phase[1:] != phase[:-1]
    lowered = (rate[1:] < rate[:-1]) & ~begun
    drops = tuple(int(epoch) for epoch in before[lowered])
    return (drops if len(drops) <= _MAX_RULES else ()), tuple(int(epoch) for epoch in before[begun])


def common_rules(histories: Sequence[History]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The rules of several histories, less those that one of them contradicts which has come as far."""
    rules = [(rules_of(history), reached(history)) for history in histories]

    def agreed(which: int) -> tuple[int, ...]:
        epochs = sorted({epoch for rule, _ in rules for epoch in rule[which]})
        return tuple(e for e in epochs if all(e in rule[which] or end <= e for rule, end in rules))

    return agreed(0), agreed(1)


def reached(history: History) -> int:
    """The last epoch that is done; 0 where none is."""
    return int(history.epoch[history.done].max(initial=0))


def progress_of(history: History) -> tuple[str, ...]:
    """How far a training is that is not finished."""
    done, total = int((history.done & (history.epoch > 0)).sum()), int(history.epoch[-1])
    return () if history.done.all() else (f"{done} of {total} epochs",)
