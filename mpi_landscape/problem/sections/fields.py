"""The types of single fields, each with what it expects in words."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.validation import expecting

# Every section names it, as a section that does not would silently accept unknown fields.
STRICT = ConfigDict(extra="forbid")

_LARGEST_COUNT = 2**31 - 1
# torch.manual_seed takes 64 bits; the sign bit is left out.
_LARGEST_SEED = 2**63 - 1

Text = Annotated[str, Field(strict=True, min_length=1), expecting("text")]
Flag = Annotated[bool, Field(strict=True), expecting("true or false")]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False), expecting("a finite number")]
Positive = Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0), expecting("a number above 0")]
NotNegative = Annotated[
    float, Field(strict=True, allow_inf_nan=False, ge=0), expecting("a number of at least 0")
]
Fraction = Annotated[
    float,
    Field(strict=True, allow_inf_nan=False, ge=0, lt=1),
    expecting("a number of at least 0 and below 1"),
]
BelowOne = Annotated[
    float, Field(strict=True, allow_inf_nan=False, gt=0, lt=1), expecting("a number above 0 and below 1")
]
Count = Annotated[
    int, Field(strict=True, ge=1, le=_LARGEST_COUNT), expecting(f"a whole number from 1 to {_LARGEST_COUNT}")
]
CountOrZero = Annotated[
    int, Field(strict=True, ge=0, le=_LARGEST_COUNT), expecting(f"a whole number from 0 to {_LARGEST_COUNT}")
]
CountOrAuto = Annotated[
    Annotated[int, Field(strict=True, ge=1, le=_LARGEST_COUNT)] | Literal["auto"],
    expecting("a whole number of at least 1, or auto"),
]
CountOrAll = Annotated[
    Annotated[int, Field(strict=True, ge=1, le=_LARGEST_COUNT)] | Literal["all"],
    expecting("a whole number of at least 1, or all"),
]
Seed = Annotated[
    int, Field(strict=True, ge=0, le=_LARGEST_SEED), expecting("a whole number of at least 0 (63 bits)")
]
Device = Annotated[
    str, Field(strict=True, pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$"), expecting("auto, cpu, cuda or cuda:N")
]
Arguments = Annotated[
    dict[Annotated[str, Field(strict=True)], Any], expecting("a mapping of argument names to values")
]
Names = Annotated[tuple[Text, ...], expecting("a list of names")]
Milestones = Annotated[tuple[Count, ...], expecting("a list of epochs, whole numbers of at least 1")]
Precision = Annotated[
    Literal["float32", "tf32", "bfloat16", "float64"], expecting("float32, tf32, bfloat16 or float64")
]
# The steps of evaluation.engine, which this room does not import.
EngineStep = Literal["folded", "channels_last", "fused", "compiled", "graphed", "first_layer", "grouped"]
EngineChoice = Annotated[
    Literal["auto", "plain"] | tuple[EngineStep, ...],
    expecting(
        "auto, plain, or a list of folded, channels_last, fused, compiled, graphed, first_layer, grouped"
    ),
]
Optimizer = Annotated[Literal["sgd", "adam"], expecting("sgd or adam")]
Placement = Annotated[Literal["auto", "resident", "streamed"], expecting("auto, resident or streamed")]
Kind = Annotated[Literal["random", "difference", "file"], expecting("random, difference or file")]
Normalize = Annotated[
    Literal["filter", "layer", "weight", "none"], expecting("filter, layer, weight or none")
]


class InvalidSectionError(LandscapeError, ValueError):
    """The fields of a section do not fit together; a ValueError too, so that pydantic adds the path."""
