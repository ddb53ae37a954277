"""The search that a section `connect` asks for."""

from __future__ import annotations

from torch import Tensor

from mpi_landscape.configuration.sections.connect import ConnectConfiguration
from mpi_landscape.connections.batches import Batches
from mpi_landscape.connections.searching.band import Band, Insertion
from mpi_landscape.connections.searching.rounds import Search
from mpi_landscape.connections.searching.string import String
from mpi_landscape.connections.searching.trained import TrainedCurve


def search_of(settings: ConnectConfiguration, start: Tensor, end: Tensor, batches: Batches) -> Search:
    """A search at its beginning.

    Args:
        settings: With nothing left open, and not of the method "line".
        start: (n,), where the path begins.
        end: (n,), where it ends.
        batches: The data of its steps.
    """
    said = settings.said
    common = {"momentum": said("momentum"), "weight_decay": said("weight_decay")}
    if settings.method in ("bezier", "polygon"):
        steps = batches.steps_per_epoch
        return TrainedCurve(
            start,
            end,
            kind="bezier" if settings.method == "bezier" else "chain",
            bends=1 if settings.method == "bezier" else said("bends"),
            epochs=said("epochs"),
            steps_per_epoch=steps,
            pieces=[len(batches.pieces_of(step)) for step in range(steps)],
            learning_rate=said("learning_rate"),
            seed=said("seed"),
            **common,
        )
    if settings.method == "string":
        return String(
            start,
            end,
            pivots=said("pivots"),
            steps=said("steps"),
            learning_rate=said("learning_rate"),
            **common,
        )
    return Band(
        start,
        end,
        pivots=said("pivots"),
        cycles=said("cycles"),
        insertion=Insertion(
            threshold=said("threshold"), between=said("between"), most_pivots=said("most_pivots")
        ),
        spring_constant=said("spring_constant"),
        **common,
    )
