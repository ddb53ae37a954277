"""How it is computed."""

from dataclasses import dataclass

from mpi_landscape.problem.sections.fields import STRICT, BelowOne, CountOrAuto, Device, Precision


@dataclass(frozen=True, kw_only=True)
class ComputeConfiguration:
    """How it is computed; "auto" is decided once by the problem, never by the number of ranks.

    Attributes:
        precision: Floating-point format of the evaluation.
        device: "auto", "cpu", "cuda" or "cuda:N".
        batch_size: Examples in a batch.
        data_shards: Pieces into which a split is cut.
        points_per_tile: Grid points in a tile.
        threads: Threads of a rank on the CPU.
        relative_error: The largest standard error of a loss, relative to that loss, with which a surface of samples is
            good enough; None for exact values.
    """

    __pydantic_config__ = STRICT

    precision: Precision = "float32"
    device: Device = "auto"
    batch_size: CountOrAuto = "auto"
    data_shards: CountOrAuto = "auto"
    points_per_tile: CountOrAuto = "auto"
    threads: CountOrAuto = "auto"
    relative_error: BelowOne | None = None
