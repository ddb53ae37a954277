"""What is known at a point of a split, and the columns of a tile's row that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.vocabulary import COMPUTED

Floats = NDArray[np.float64]

# The columns that every row begins with: what a mean and its standard error need.
SUMS = ("loss_sum", "correct", "examples", "loss_squares")
# Of a loss that is the mean over tokens of −ln p: its exponential is the perplexity.
PER_TOKEN = "nats per token"


@dataclass(frozen=True, kw_only=True)
class Quantities:
    """What a surface has at each point of each split.

    Attributes:
        accuracy: Whether the loss tells which examples are correct.
        returned: Further numbers that it returns for each example, by name; their means are kept.
        computed: Names of `vocabulary.COMPUTED`.
        loss_units: Of the loss, which a new file says.

    Example:
        >>> both = Quantities(accuracy=True, returned=("top5",))
        >>> both.kinds
        ('loss', 'accuracy', 'top5')
        >>> {name: float(value) for name, value in both.values(np.array([6.0, 3.0, 4.0, 9.5, 4.0])).items()}
        {'loss': 1.5, 'accuracy': 0.75, 'top5': 1.0}
    """

    accuracy: bool = False
    returned: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()
    # Words, by which no number becomes another one.
    loss_units: str = field(default="nats per example", compare=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a row."""
        return (*SUMS, *self.returned, *self.computed)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of the result arrays, without their split."""
        return ("loss", *["accuracy"] * self.accuracy, *self.returned, *self.computed)

    @property
    def adds_up(self) -> bool:
        """Whether all of it is known from the sums over the shards of a split."""
        return not self.computed

    def values(self, totals: Floats) -> dict[str, Floats]:
        """Every result by kind, (...) float64, from the rows of a whole split, (..., num_columns) float64."""
        with np.errstate(invalid="ignore", over="ignore"):
            values = {"loss": totals[..., 0] / totals[..., 2]}
            if self.accuracy:
                values["accuracy"] = totals[..., 1] / totals[..., 2]
            for column, name in enumerate(self.returned, start=len(SUMS)):
                values[name] = totals[..., column] / totals[..., 2]
        for column, name in enumerate(self.computed, start=len(SUMS) + len(self.returned)):
            values[name] = totals[..., column]
        return values


def units_of(kind: str, loss: str = "nats per example") -> str:
    """The units of a result array, without its split in the name, by those of the loss.

    Example:
        >>> units_of("gradient_norm", PER_TOKEN)
        'nats per token and unit of the parameters'
    """
    computed = {name: each.replace("nats per example", loss) for name, each in COMPUTED.items()}
    known = {"accuracy": "1", "loss": loss, "loss_stderr": loss, **computed}
    return known.get(kind, "per example")


def derived(
    values: Mapping[str, Floats], units: Mapping[str, str]
) -> tuple[dict[str, Floats], dict[str, str]]:
    """What follows from results and is stored nowhere, with its units.

    It is the perplexity exp(loss), of a loss per token; and |λmin / λmax|, which is small where a surface is convex (Li et al.
    2018, arXiv:1712.09913, section 6), where both ends of the Hessian's spectrum are there.

    Example:
        >>> found, _ = derived({"train_loss": np.array([0.0, np.log(4)])}, {"train_loss": PER_TOKEN})
        >>> {name: each.round(12).tolist() for name, each in found.items()}
        {'train_perplexity': [1.0, 4.0]}
        >>> ends = {"train_lambda_max": np.array([2.0, 4.0]), "train_lambda_min": np.array([-1.0, 0.0])}
        >>> derived(ends, {})[0]["train_curvature_ratio"].tolist()
        [0.5, 0.0]
    """
    losses = [name for name in values if name.endswith("_loss") and units.get(name) == PER_TOKEN]
    with np.errstate(over="ignore"):
        found = {f"{name.removesuffix('_loss')}_perplexity": np.exp(values[name]) for name in losses}
    their_units = dict.fromkeys(found, "equally likely tokens")
    for name in [name for name in values if name.endswith("_lambda_min")]:
        split = name.removesuffix("_lambda_min")
        top = values.get(f"{split}_lambda_max")
        if top is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                found[f"{split}_curvature_ratio"] = np.abs(values[name] / top)
            their_units[f"{split}_curvature_ratio"] = "1"
    return found, their_units
