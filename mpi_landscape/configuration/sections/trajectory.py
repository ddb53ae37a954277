"""Where training went: checkpoints, and the axes on which their way is looked at."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, get_args

from pydantic import BeforeValidator

from mpi_landscape.configuration.sections.fields import STRICT, Count, Text
from mpi_landscape.configuration.validation import expecting
from mpi_landscape.errors import InvalidSectionError
from mpi_landscape.vocabulary import PathAxes
from mpi_landscape.wording import either, shown

# A folder, a pattern, or files in their order.
Place = Text | tuple[Text, ...]
_LONGEST_NAME = 80


def _listed(said: object) -> object:
    """A list as a tuple, by name where there are names."""
    if isinstance(said, Mapping):
        return {name: _listed(each) for name, each in said.items()}
    return tuple(said) if isinstance(said, list) else said


Places = Annotated[
    Place | dict[Text, Place],
    BeforeValidator(_listed),
    expecting(
        "a folder, a pattern such as runs/mine/*.pt, a list of files, or a mapping from names to one of these"
    ),
]
AxesOfPath = Annotated[PathAxes, expecting(either(get_args(PathAxes)))]


@dataclass(frozen=True, kw_only=True)
class TrajectoryConfiguration:
    """The way of an optimizer, or of several, in one plane.

    Attributes:
        checkpoints: A folder (of `train`, of a `Recorder`, or of anybody, whose files are taken in natural order), a pattern
            of names, or a list of files; of several trajectories, each by its name. With a training its folder unless said
            otherwise. They are read by `model.key` and `model.part`.
        axes: `pca`, the first two principal components of [θ0 − θn; ...; θn−1 − θn] (Li et al. 2018, arXiv:1712.09913, section
            7.2), or of all trajectories together; `random`, those of `directions`, in which a path looks like a random walk;
            `start_to_end`, from the center to the first checkpoint, and the second of `directions`. Axes that are
            not those of `directions` move all parameters, and running statistics where directions.normalization_buffers is true.
        every: Take every so many checkpoints, from the first on; the last is always taken.
        center: `last`, that of the (first) trajectory, or a file.
        output: The trajectory file; where nothing is said the configuration's output, or `trajectory.h5` in the folder of the
            training or of the checkpoints. So one file can say a trajectory and the surface on its axes.

    Raises:
        InvalidSectionError: There are no checkpoints, or a name that cannot be one.
    """

    __pydantic_config__ = STRICT

    checkpoints: Places | None = None
    axes: AxesOfPath = "pca"
    every: Count = 1
    center: Text = "last"
    output: Text | None = None

    def __post_init__(self) -> None:
        for name, place in self.places.items():
            if not place:
                raise InvalidSectionError(
                    "checkpoints has no files; expected a folder, a pattern or a list of them",
                    field="checkpoints",
                )
            if len(name) > _LONGEST_NAME:
                raise InvalidSectionError(f"checkpoints has the name {shown(name)}; expected a shorter one")
        if self.checkpoints is not None and not self.places:
            raise InvalidSectionError("checkpoints is {}; expected at least one trajectory")

    @property
    def places(self) -> dict[str, "Place"]:
        """Where the checkpoints of each trajectory are, by name; a single one has none."""
        if self.checkpoints is None:
            return {}
        if isinstance(self.checkpoints, dict):
            return dict(self.checkpoints)
        return {"": self.checkpoints}
