"""How it is computed."""

from dataclasses import dataclass

from mpi_landscape.configuration.sections import fields
from mpi_landscape.errors import InvalidSectionError
from mpi_landscape.vocabulary import COMPUTED, OF_THE_HESSIAN


@dataclass(frozen=True, kw_only=True)
class ComputeConfiguration:
    """How it is computed; "auto" is decided once by the problem, never by the number of ranks.

    Attributes:
        quantities: What is computed at every point, by name, each once; the loss is, whether named or not.
        precision: Floating-point format of the evaluation: "float32", exact; "float64"; "tf32" (GPUs) or "bfloat16",
            faster, their error measured and kept in the file; "kept", every tensor of the network in the type that it
            has, such as bfloat16: the network itself is moved, and directions are made anew at every point.
        engine: How the network is rewritten to cost less: "auto", "plain" for not at all, or a list of steps that
            may be tried. Each is compared with the plain network on real data, and dropped where it differs.
        batch_norm: Whose running statistics batch normalization has away from the center: "stored", the center's; "interpolated",
            which move along a difference as parameters do; "recomputed", those of a pass over the training split at every
            point, as torch.optim.swa_utils.update_bn; "auto" is interpolated where a difference leads to others.
        device: "auto", "cpu", "cuda" or "cuda:N".
        data: Where the data are held: "resident" in memory, "streamed" to it, or "auto".
        batch_size: Examples in a batch.
        data_shards: Pieces into which a split is cut.
        points_per_tile: Grid points in a tile.
        threads: Threads of a rank on the CPU.
        relative_error: The largest standard error of a loss, relative to that loss, with which a surface of samples is
            good enough; None for exact values.
        save_vectors: Whether the file holds center and directions; without them it holds their fingerprints and this
            configuration, from which a resumed run makes them again, and no other surface can take a direction of it.
    """

    __pydantic_config__ = fields.STRICT

    quantities: fields.Quantities = ("loss",)
    precision: fields.Precision = "float32"
    engine: fields.EngineChoice = "auto"
    batch_norm: fields.BatchNorm = "auto"
    device: fields.Device = "auto"
    data: fields.Placement = "auto"
    batch_size: fields.CountOrAuto = "auto"
    data_shards: fields.CountOrAuto = "auto"
    points_per_tile: fields.CountOrAuto = "auto"
    threads: fields.ThreadsOrAuto = "auto"
    relative_error: fields.BelowOne | None = None
    save_vectors: fields.Flag = True

    def __post_init__(self) -> None:
        if self.precision == "kept":
            self._check_kept()
        if self.batch_norm == "recomputed":
            self._check_recomputed()
        curved = [name for name in self.quantities if name in OF_THE_HESSIAN]
        if curved:
            raise InvalidSectionError(
                f"quantities has {curved[0]}, which python -m mpi_landscape.hessian finds, with the losses (hessian.at: grid); "
                f"leave it out"
            )
        whole = [name for name in self.quantities if name in COMPUTED]
        if whole and self.relative_error is not None:
            raise InvalidSectionError(
                f"relative_error is {self.relative_error:g}, but {whole[0]} cannot be estimated from samples (it is of "
                f"the whole mean, not a mean of numbers of examples); leave it out, or leave {whole[0]} out of "
                f"quantities"
            )

    def _check_kept(self) -> None:
        """Refuse what needs a copy of the network, or its numbers in another type."""
        if isinstance(self.engine, tuple) and self.engine:
            raise InvalidSectionError(
                f"engine is [{', '.join(self.engine)}], but with precision kept the network itself is moved, and nothing is "
                f"rewritten; valid are auto and plain"
            )
        copied = [name for name in self.quantities if name in COMPUTED]
        if copied:
            raise InvalidSectionError(
                f"quantities has {copied[0]}, which needs a copy of the network in float32 or float64, but precision is kept; "
                f"leave it out, or choose another precision"
            )

    def _check_recomputed(self) -> None:
        """Refuse what takes the network's statistics for constants, or a part of the data for all of it."""
        if isinstance(self.engine, tuple) and self.engine:
            raise InvalidSectionError(
                f"engine is [{', '.join(self.engine)}], but with batch_norm recomputed the network itself is moved, and nothing "
                f"is rewritten; valid are auto and plain"
            )
        if self.precision in ("bfloat16", "kept"):
            raise InvalidSectionError(
                f"batch_norm is recomputed, and precision is {self.precision}; valid for it are float32, tf32 and float64"
            )
        computed = [name for name in self.quantities if name in COMPUTED]
        if computed:
            raise InvalidSectionError(
                f"quantities has {computed[0]}, which is not known with batch_norm recomputed, where statistics are a function "
                f"of the parameters; leave one of the two out"
            )
        if self.relative_error is not None:
            raise InvalidSectionError(
                f"relative_error is {self.relative_error:g}, and batch_norm is recomputed, by a pass over all of the training "
                f"data at every point; leave one of the two out"
            )
