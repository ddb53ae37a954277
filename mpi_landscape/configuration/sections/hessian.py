"""Curvature: where the Hessian is looked at, what of it, and how well."""

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field

from mpi_landscape.configuration.sections import fields
from mpi_landscape.configuration.sections.work import ComputeConfiguration
from mpi_landscape.configuration.validation import expecting
from mpi_landscape.errors import InvalidSectionError, LandscapeError
from mpi_landscape.vocabulary import Operator
from mpi_landscape.wording import either

# Each of these is a vector of the network's size, or a pass over the data.
_MOST = 10_000
# A basis that begins anew must have room for the vectors that it keeps.
_FEWEST_VECTORS = 8

_Pairs = Annotated[int, Field(strict=True, ge=0, le=_MOST), expecting(f"a whole number from 0 to {_MOST}")]
_Steps = Annotated[int, Field(strict=True, ge=2, le=_MOST), expecting(f"a whole number from 2 to {_MOST}")]
_MostSteps = Annotated[
    int,
    Field(strict=True, ge=_FEWEST_VECTORS, le=_MOST),
    expecting(f"a whole number from {_FEWEST_VECTORS} to {_MOST}"),
]


def _listed(said: object) -> object:
    """A list of files as a tuple."""
    return tuple(said) if isinstance(said, list) else said


_At = Annotated[
    fields.Text | Annotated[tuple[fields.Text, ...], Field(min_length=1)],
    BeforeValidator(_listed),
    expecting("center, grid, a checkpoint, a surface file, or a list of checkpoints"),
]
_Values = Annotated[
    Literal["auto", "extremes", "spectrum"], expecting(either(("auto", "extremes", "spectrum")))
]
_Operator = Annotated[Operator, expecting(either(get_args(Operator)))]
_Parameters = Annotated[
    Literal["trainable", "moving"] | Annotated[tuple[fields.Text, ...], Field(min_length=1)],
    BeforeValidator(_listed),
    expecting("trainable, moving, or a list of patterns of names such as '*.weight'"),
]
_Starts = Annotated[Literal["cold", "tiles"], expecting("cold or tiles")]
_Engine = Annotated[Literal["auto", "plain", "compiled"], expecting(either(("auto", "plain", "compiled")))]
_Memory = Annotated[
    Annotated[float, Field(strict=True, ge=0, le=2.0**20)] | Literal["auto"],
    expecting("a number of GiB of at least 0, or auto"),
]


@dataclass(frozen=True, kw_only=True)
class HessianConfiguration:
    """The Hessian of the mean loss, where it is looked at and what is found of it.

    Attributes:
        at: `center`; `grid`, at every point of `grid`, along `directions`; a checkpoint; a surface file, at every point of its
            grid and in its plane; or a list of checkpoints, one after the other.
        values: `extremes`, the largest and the smallest eigenvalue; `spectrum`, several of both ends and the density of the
            rest; `auto`, extremes at a grid and the spectrum elsewhere.
        split: The split of the data whose mean loss it is.
        operator: `hessian`, or one of its two parts: `gauss_newton`, the mean of ∇f ℓ''(f) ∇fᵀ, which has no negative
            eigenvalue; `remainder`, the mean of ℓ'(f) ∇²f.
        largest: How many of the largest eigenvalues a spectrum has.
        smallest: How many of the smallest ones.
        probes: Random vectors of the density; 0 for none.
        steps: Products for each of them, and one more.
        tolerance: The residual of an eigenvalue at which it is found, relative to that eigenvalue; its error is of second order.
        most_steps: Products of a run of Lanczos' method at most; so many vectors of the network's size are in memory, and a few.
        parameters: Which are varied: `trainable`, those that ask for a gradient; `moving`, those that the directions
            move, as in Li et al. (2018), arXiv:1712.09913, section 6, weights without biases and normalizations; or
            patterns of names.
        normalized: Whether eigenvalues in filter-normalized coordinates are found, too: those of D H D, where D has the norm of
            each number's filter. They do not change where a layer is rescaled.
        eigenvectors: How many of the largest and of the smallest eigenvalues' vectors are kept in the file of a spectrum.
        starts: At a grid, whether every point begins at random, `cold`, or within a tile from its neighbor's
            vectors, `tiles`, which is faster and checked at some points.
        engine: How products are computed: `auto`, with what proves to be the same as double backward through the network itself;
            `plain`, by that; `compiled`, by compiled code as well, of which graphs are not kept: minutes to compile, and
            what proves wrong is dropped.
        memory: GiB for graphs of batches that are kept between the products at a point; `auto` by what is free.
        seed: Of random vectors.
        output: The file; where nothing is said beside the surface or the training, as `curvature_map.h5` or `spectrum.h5`.

    Raises:
        InvalidSectionError: Two of these do not go together.
    """

    __pydantic_config__ = fields.STRICT

    at: _At = "center"
    values: _Values = "auto"
    split: fields.Text = "train"
    operator: _Operator = "hessian"
    largest: _Pairs = 10
    smallest: _Pairs = 5
    probes: _Pairs = 4
    steps: _Steps = 40
    tolerance: fields.BelowOne = 1e-2
    most_steps: _MostSteps = 60
    parameters: _Parameters = "trainable"
    normalized: fields.Flag = False
    eigenvectors: _Pairs = 0
    starts: _Starts = "cold"
    engine: _Engine = "auto"
    memory: _Memory = "auto"
    seed: fields.Seed = 1
    output: fields.Text | None = None

    def __post_init__(self) -> None:
        if self.at == "grid" and self.values == "spectrum":
            raise InvalidSectionError(
                "values is spectrum and at is grid, where extremes alone are known; valid are extremes, or at: center",
                field="values",
            )
        if self.values == "spectrum" and not (self.largest or self.smallest or self.probes):
            raise InvalidSectionError(
                "largest, smallest and probes are 0; a spectrum has at least one of them", field="largest"
            )
        if self.engine == "compiled" and self.operator != "hessian":
            raise InvalidSectionError(
                f"engine is compiled and operator is {self.operator}, whose products are not compiled; valid are auto and plain, "
                f"or operator: hessian",
                field="engine",
            )
        if self.eigenvectors > max(self.largest, self.smallest):
            raise InvalidSectionError(
                f"eigenvectors is {self.eigenvectors}, and there are {max(self.largest, self.smallest)} at most; raise largest "
                f"or smallest, or keep fewer",
                field="eigenvectors",
            )

    @property
    def places(self) -> tuple[str, ...]:
        """The files that `at` names; none of `center` and `grid`."""
        if isinstance(self.at, tuple):
            return self.at
        return () if self.at in ("center", "grid") else (self.at,)


def check_computable(compute: ComputeConfiguration, *, where: str) -> None:
    """Refuse what a surface can be computed with and a Hessian cannot.

    Raises:
        LandscapeError: There is something of it.
    """
    if compute.precision not in ("float32", "float64"):
        raise LandscapeError(
            f"{where}: compute.precision is {compute.precision}, in which products with a Hessian are further off than small "
            f"eigenvalues are from zero; valid for it are float32 and float64"
        )
    if compute.relative_error is not None:
        raise LandscapeError(
            f"{where}: compute.relative_error is {compute.relative_error:g}, but eigenvalues cannot be estimated from samples: "
            f"those of a part of the data are others; leave it out"
        )
    if compute.batch_norm == "recomputed":
        raise LandscapeError(
            f"{where}: compute.batch_norm is recomputed, and derivatives of statistics that are a function of the "
            f"parameters are not known; valid for a Hessian are stored and interpolated"
        )
