"""The types of single fields, each with what it expects in words."""

from functools import partial
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, ConfigDict, Field

from mpi_landscape import vocabulary
from mpi_landscape.configuration.validation import expecting
from mpi_landscape.wording import either, listed

# Every section names it, as a section that does not would silently accept unknown fields.
STRICT = ConfigDict(extra="forbid")

_LARGEST_COUNT = 2**31 - 1
# torch.manual_seed takes 64 bits; the sign bit is left out.
LARGEST_SEED = 2**63 - 1
# Lines in one file: the direction of each lies in the memory of every rank.
_MOST_REPEATS = 1000
# Each of these is multiplied by memory or time that is taken at once: a history has a row for every epoch, an image is
# framed by its shift, a thread has a network of its own.
MOST_EPOCHS, MOST_CHECKPOINTS = 1_000_000, 10_000
_LARGEST_SHIFT, _MOST_THREADS = 512, 4096

_whole = partial(Field, strict=True)
_finite = partial(Field, strict=True, allow_inf_nan=False)

# Names and files: a NUL ends a name for the system, and a terminal obeys other control characters.
Text = Annotated[
    str,
    Field(strict=True, min_length=1, pattern=r"^[^\x00-\x1f\x7f]*$"),
    expecting("text in UTF-8 without control characters"),
]
Flag = Annotated[bool, Field(strict=True), expecting("true or false")]
Positive = Annotated[float, _finite(gt=0), expecting("a number above 0")]
NotNegative = Annotated[float, _finite(ge=0), expecting("a number of at least 0")]
Fraction = Annotated[float, _finite(ge=0, lt=1), expecting("a number of at least 0 and below 1")]
BelowOne = Annotated[float, _finite(gt=0, lt=1), expecting("a number above 0 and below 1")]
_Count = Annotated[int, _whole(ge=1, le=_LARGEST_COUNT)]
_Threads = Annotated[int, _whole(ge=1, le=_MOST_THREADS)]
Count = Annotated[_Count, expecting(f"a whole number from 1 to {_LARGEST_COUNT}")]
CountOrAuto = Annotated[_Count | Literal["auto"], expecting("a whole number of at least 1, or auto")]
CountOrAll = Annotated[_Count | Literal["all"], expecting("a whole number of at least 1, or all")]
ThreadsOrAuto = Annotated[
    _Threads | Literal["auto"], expecting(f"a whole number from 1 to {_MOST_THREADS}, or auto")
]
Epochs = Annotated[int, _whole(ge=0, le=MOST_EPOCHS), expecting(f"a whole number from 0 to {MOST_EPOCHS}")]
Shift = Annotated[
    int, _whole(ge=0, le=_LARGEST_SHIFT), expecting(f"a whole number from 0 to {_LARGEST_SHIFT}")
]
_Seed = Annotated[int, _whole(ge=0, le=LARGEST_SEED)]
Seed = Annotated[_Seed, expecting("a whole number of at least 0 (63 bits)")]
Index = Annotated[
    int,
    _whole(ge=-_MOST_REPEATS, le=_MOST_REPEATS),
    expecting("a whole number: 0 for the first, -1 for the last"),
]
Repeats = Annotated[
    int, _whole(ge=1, le=_MOST_REPEATS), expecting(f"a whole number from 1 to {_MOST_REPEATS}")
]
Device = Annotated[
    str, Field(strict=True, pattern=r"^(auto|cpu|cuda(:[0-9]+)?)$"), expecting("auto, cpu, cuda or cuda:N")
]
Arguments = Annotated[
    dict[Annotated[str, Field(strict=True)], Any], expecting("a mapping of argument names to values")
]
Names = Annotated[tuple[Text, ...], expecting("a list of names")]
Milestones = Annotated[tuple[Count, ...], expecting("a list of epochs, whole numbers of at least 1")]


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(seeds)) < len(seeds):
        raise ValueError("a seed is given twice")
    return seeds


Seeds = Annotated[
    tuple[_Seed, ...],
    Field(min_length=1, max_length=_MOST_REPEATS),
    AfterValidator(_distinct),
    expecting(f"a list of up to {_MOST_REPEATS} whole numbers of at least 0, each once"),
]


def _with_loss(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError("a name is given twice")
    return names if "loss" in names else ("loss", *names)


# What is computed at every point. Whether there is such a quantity is known where the loss is known.
Quantities = Annotated[
    tuple[Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_]+$")], ...],
    AfterValidator(_with_loss),
    expecting("a list of names of letters, digits and _, each once, such as [loss]"),
]
Precision = Annotated[vocabulary.Precision, expecting(either(get_args(vocabulary.Precision)))]
EngineChoice = Annotated[
    Literal["auto", "plain"] | tuple[vocabulary.Step, ...],
    expecting(f"auto, plain, or a list of {listed(get_args(vocabulary.Step))}"),
]
Optimizer = Annotated[vocabulary.Optimizer, expecting(either(get_args(vocabulary.Optimizer)))]
Placement = Annotated[vocabulary.Placement, expecting(either(get_args(vocabulary.Placement)))]
Normalize = Annotated[vocabulary.Normalization, expecting(either(get_args(vocabulary.Normalization)))]
BatchNorm = Annotated[vocabulary.BatchNorm, expecting(either(get_args(vocabulary.BatchNorm)))]
Only = Annotated[vocabulary.Only, expecting(either(get_args(vocabulary.Only)))]
Buffers = Annotated[Annotated[bool, Field(strict=True)] | Literal["auto"], expecting("auto, true or false")]
TensorKind = Annotated[vocabulary.TensorKind, expecting(either(get_args(vocabulary.TensorKind)))]
_Axis = Annotated[int, _whole(ge=-32, le=31)]
Axes = Annotated[
    _Axis | Annotated[tuple[_Axis, ...], Field(min_length=1)],
    expecting("the number of an axis, or a list of such numbers"),
]
