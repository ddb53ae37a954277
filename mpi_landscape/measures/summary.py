"""Numbers about the minimum of a surface, nested for programs and in lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.errors import LandscapeError
from mpi_landscape.measures.persistence import Basin, basins_of
from mpi_landscape.measures.rises import mean_rise
from mpi_landscape.measures.sides import barrier_of, ends_on_line, sides_of
from mpi_landscape.storage.surface.value import Surface
from mpi_landscape.wording import coordinates

# Nats per example: a tenth of what is lost by guessing among eleven instead of ten.
RISE = 0.1
# Basins that people are shown.
_SHOWN = 12


def measure(surface: Surface, rise: float, *, persistence: bool = False) -> dict[str, Any]:
    """What is known of the minimum of every loss.

    Args:
        surface: Finished or not; what is not done or not finite is left out, and said.
        rise: Above the minimum, for widths, and how deep a basin is to be counted; in units of the loss, more than 0.
        persistence: Whether minima are searched for, too, which needs gudhi.

    Raises:
        LandscapeError: Persistence is wanted, and gudhi is not installed, or there are several lines.
    """
    if persistence and surface.seeds is not None:
        raise LandscapeError(
            f"{surface.path}: holds several lines, and basins are those of one line or of a plane; valid is a file of one"
        )
    # Differences of large losses may be infinite, and these of no number: so it is told.
    with np.errstate(over="ignore", invalid="ignore"):
        return {"rise": rise, "losses": _losses(surface, rise, persistence=persistence)}


def _losses(surface: Surface, rise: float, *, persistence: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    for name in (name for name in surface.values if name.endswith("_loss")):
        values, done = surface.values[name], surface.done_of(name)
        known = done & np.isfinite(values)
        if not known.any():
            continue
        found: dict[str, Any] = {
            "left_out": {"not_done": int((~done).sum()), "not_finite": int((done & ~known).sum())}
        }
        if surface.seeds is None:
            found |= _minimum(surface, values, done, rise) | _barrier(surface, values, done)
            if persistence:
                found["basins"] = [_basin(surface, basin) for basin in basins_of(values, done)]
        else:
            found |= _lines_facts(surface, values, done, rise)
        facts[name] = found
    return facts


def _minimum(
    surface: Surface, values: NDArray[np.float64], done: NDArray[np.bool_], rise: float
) -> dict[str, Any]:
    known = done & np.isfinite(values)
    place = np.unravel_index(int(np.argmin(np.where(known, values, np.inf))), values.shape)
    axes = {"alpha": surface.alpha} | ({} if surface.beta is None else {"beta": surface.beta})
    widths = {}
    for number, (name, axis) in enumerate(axes.items()):
        through = tuple(slice(None) if each == number else index for each, index in enumerate(place))
        widths[name] = _sides(axis, values[through], done[through], int(place[number]), rise)
    at = [float(axis[index]) for axis, index in zip(axes.values(), place, strict=True)]
    return {"minimum": {"value": float(values[place]), "at": at}, "widths": widths}


def _sides(
    axis: NDArray[np.float64], values: NDArray[np.float64], done: NDArray[np.bool_], place: int, rise: float
) -> dict[str, Any]:
    left, right = sides_of(axis, values, done, place, rise)
    return {
        name: {"width": side.width, **({"why": side.why} if side.why else {})}
        for name, side in (("left", left), ("right", right))
    }


def _barrier(surface: Surface, values: NDArray[np.float64], done: NDArray[np.bool_]) -> dict[str, Any]:
    """Of a line with two solutions on it."""
    if surface.beta is not None:
        return {}
    ends = ends_on_line(surface.points, leads_to_checkpoint="checked_alpha_end" in surface.attributes)
    if ends is None:
        return {}
    found = barrier_of(surface.alpha, values, done, ends)
    said = {"between": list(ends), "ends": list(found.ends), "height": found.height, "at": found.at}
    return {"barrier": said | ({"why": found.why} if found.why else {})}


def _lines_facts(
    surface: Surface, values: NDArray[np.float64], done: NDArray[np.bool_], rise: float
) -> dict[str, Any]:
    """Of several lines: the width of each, and their mean rise."""
    widths: dict[str, list[float]] = {"left": [], "right": []}
    for line, own in zip(values.T, done.T, strict=True):
        known = own & np.isfinite(line)
        if known.any():
            place = int(np.argmin(np.where(known, line, np.inf)))
            for name, side in zip(widths, sides_of(surface.alpha, line, own, place, rise), strict=True):
                widths[name].append(side.width)
    facts: dict[str, Any] = {"widths_of_lines": {name: _mean(found) for name, found in widths.items()}}
    rises = mean_rise(surface.alpha, values, done)
    if rises is not None:
        facts["mean_rise"] = {
            "alpha": rises.alpha.tolist(),
            "mean": rises.mean.tolist(),
            "stderr": rises.stderr.tolist(),
            "lines": rises.lines.tolist(),
        }
    return facts


def _mean(numbers: list[float]) -> dict[str, Any]:
    """Of those that are reached, with its standard error."""
    reached = np.array(numbers)[~np.isnan(numbers)] if numbers else np.empty(0)
    return {
        "mean": float(reached.mean()) if reached.size else np.nan,
        "stderr": float(reached.std(ddof=1) / np.sqrt(reached.size)) if reached.size > 1 else np.nan,
        "reached": int(reached.size),
        "of": len(numbers),
    }


def _basin(surface: Surface, basin: Basin) -> dict[str, Any]:
    axes = [axis for axis in (surface.alpha, surface.beta) if axis is not None]

    def at(place: tuple[int, ...]) -> list[float]:
        return [float(axis[index]) for axis, index in zip(axes, place, strict=True)]

    return {
        "birth": basin.birth,
        "death": basin.death,
        "at": at(basin.place),
        "pass": None if basin.saddle is None else at(basin.saddle),
    }


def measured_lines(facts: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    rise = facts["rise"]
    text = [f"measures     (rise {rise:g}, see --rise; interpolated between the points of the grid)"]
    for name, found in facts["losses"].items():
        missing, undefined = found["left_out"]["not_done"], found["left_out"]["not_finite"]
        if missing or undefined:
            text.append(
                f"  {name}: {missing} points that are not done and {undefined} that are not finite are left out"
            )
        if "minimum" in found:
            at = coordinates(found["minimum"]["at"])
            text.append(
                f"  {name}: minimum {found['minimum']['value']:.6g} at ({at}); {_widths(found['widths'])}"
            )
        if "widths_of_lines" in found:
            sides = found["widths_of_lines"]
            words = "; ".join(f"to the {side} {_of_lines(said)}" for side, said in sides.items())
            text.append(f"  {name}: width at the rise: {words}")
        if "mean_rise" in found:
            text.append(f"  {name}: {_rises(found['mean_rise'])}")
        if "barrier" in found:
            text.append(f"  {name}: {_barrier_words(found['barrier'])}")
        text += _basin_lines(name, found.get("basins"), rise)
    return text if len(text) > 1 else []


def _widths(widths: Mapping[str, Any]) -> str:
    """How far the rise is, along each axis."""
    words = []
    for axis, sides in widths.items():
        said = (
            f"to the {side} {one['why'] if np.isnan(one['width']) else format(one['width'], '.4g')}"
            for side, one in sides.items()
        )
        words.append(f"width along {axis} {', '.join(said)}")
    return "; ".join(words)


def _of_lines(said: Mapping[str, Any]) -> str:
    if not said["reached"]:
        return f"not reached by any of {said['of']} lines"
    error = "" if np.isnan(said["stderr"]) else f" ± {said['stderr']:.2g}"
    return f"{said['mean']:.4g}{error} ({said['reached']} of {said['of']} lines reach it)"


def _rises(said: Mapping[str, Any]) -> str:
    """At both ends, and half-way to them."""
    alpha = np.array(said["alpha"])
    wanted = [alpha[0], alpha[0] / 2, alpha[-1] / 2, alpha[-1]]
    places = dict.fromkeys(int(np.argmin(np.abs(alpha - each))) for each in wanted)
    words = []
    for place in places:
        error = said["stderr"][place]
        spread = "" if np.isnan(error) else f" ± {error:.2g}"
        words.append(f"{said['mean'][place]:.4g}{spread} at {alpha[place]:g} ({said['lines'][place]} lines)")
    return f"mean rise above the center, with its standard error: {', '.join(words)}"


def _barrier_words(said: Mapping[str, Any]) -> str:
    low, high = said["between"]
    if "why" in said:
        return f"barrier between {low:g} and {high:g} not known: {said['why']}"
    ends = " and ".join(f"{each:.6g}" for each in said["ends"])
    return (
        f"barrier {said['height']:.6g} at {said['at']:g}, above the higher of {ends} at {low:g} and {high:g}"
    )


def _basin_lines(name: str, basins: list[dict[str, Any]] | None, rise: float) -> list[str]:
    if basins is None:
        return []
    deep = sum(each["death"] - each["birth"] >= rise for each in basins)
    text = [f"  {name}: {deep} basin{'s' * (deep != 1)} of depth {rise:g} or more, of {len(basins)} minima"]
    for each in basins[:_SHOWN]:
        end = (
            "joins no lower one"
            if each["pass"] is None
            else f"death {each['death']:.6g} at ({coordinates(each['pass'])}), depth {each['death'] - each['birth']:.4g}"
        )
        text.append(f"    birth {each['birth']:.6g} at ({coordinates(each['at'])}), {end}")
    if len(basins) > _SHOWN:
        text.append(f"    and {len(basins) - _SHOWN} less deep ones (--json has all)")
    return text
