"""What a picture of trajectories says: axes with their shares of the variation, and whether a surface is on the same axes."""

from collections.abc import Sequence

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.identity import of_attributes
from mpi_landscape.storage.surface.value import Surface
from mpi_landscape.storage.trajectory.value import Trajectory
from plotting.picture.levels import format_value

KINDS = ("path", "seen")
# Axes by the word of the file: what alpha and beta are.
_NAMES = {
    "pca": ("1st principal component", "2nd principal component"),
    "random": ("random direction", "random direction"),
    "start_to_end": ("from the center to the start", "random direction"),
}
# A schedule with more drops than these is a smooth one, whose every epoch would be marked.
_MOST_DROPS = 12


def axis_labels(trajectory: Trajectory) -> tuple[str, str]:
    """The labels of the axes, with the share of the variation that each holds, however little: that is what random ones show."""
    names = _NAMES.get(trajectory.axes, ("", ""))
    labels = []
    for letter, name, key in zip("αβ", names, ("alpha", "beta"), strict=True):
        share = trajectory.shares.get(key)
        said = "" if share is None else percent(share)
        labels.append(f"{letter}: " + ", ".join(filter(None, [name, said])) if name or said else letter)
    return labels[0], labels[1]


def percent(share: float) -> str:
    """A share in percent.

    Example:
        >>> [percent(each) for each in (0.95349, 0.0397, 0.00012, 3e-7)]
        ['95.3 %', '3.97 %', '0.012 %', '< 0.001 %']
    """
    return f"{100 * share:.3g} %" if share >= 1e-5 else "< 0.001 %"


def drops(trajectory: Trajectory, number: int) -> list[int]:
    """The places in a trajectory after which the learning rate was lowered; none of a smooth schedule."""
    found = trajectory.lowered(number).tolist()
    return found if len(found) <= _MOST_DROPS else []


def facts_of(trajectory: Trajectory) -> tuple[str, ...]:
    """What stands below the title."""
    out, away = float(trajectory.distance.max()), float(trajectory.from_center.max())
    facts = [f"out of the plane at most {format_value(out)}, from the center {format_value(away)}"]
    missing = int((~trajectory.done).sum())
    if missing:
        facts.append(f"partial: {len(trajectory.done) - missing} of {len(trajectory.done)} checkpoints")
    return tuple(facts)


def fitting(trajectory: Trajectory, surfaces: Sequence[Surface]) -> list[Surface]:
    """The surfaces on the axes of a trajectory, around its center."""
    return [surface for surface in surfaces if not _differing(trajectory, surface)]


def check_same_axes(trajectory: Trajectory, surface: Surface) -> None:
    """Refuse a surface on other axes: the path would lie on a landscape that is not its own.

    Raises:
        LandscapeError: It is another plane, or a line.
    """
    if surface.beta is None or min(len(surface.alpha), len(surface.beta)) < 2:
        raise LandscapeError(
            f"{surface.path}: is a line, and {trajectory.path} a path in a plane; draw them one by one"
        )
    differing = _differing(trajectory, surface)
    if differing:
        raise LandscapeError(
            f"{surface.path}: is not in the plane of {trajectory.path} (another {', another '.join(differing)}); valid is a "
            f"surface with its center and directions: {{kind: file, path: {trajectory.path}}}"
        )


def _differing(trajectory: Trajectory, surface: Surface) -> list[str]:
    own = of_attributes(surface.attributes)
    there = {
        "center": own.get("center"),
        **{name: own.get(f"direction_{name}") for name in ("alpha", "beta")},
    }
    return [name for name, value in trajectory.fingerprints.items() if not value or value != there.get(name)]
