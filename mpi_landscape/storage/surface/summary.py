"""What is in a surface, nested by theme for programs and in lines for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from mpi_landscape.storage.identity import of_attributes
from mpi_landscape.storage.surface import decay
from mpi_landscape.storage.surface.again import command_again
from mpi_landscape.storage.surface.curvature import curvature_facts, curvature_lines
from mpi_landscape.storage.surface.ending import Ended
from mpi_landscape.storage.surface.value import Surface
from mpi_landscape.wording import coordinates, ranges, shortened

# Known where it was looked at, and told with the curvature.
_OF_FEW_POINTS = "_lambda_difference"


def summarize(surface: Surface, tiles: tuple[int, int, int]) -> dict[str, Any]:
    """The facts about a surface, nested by theme.

    Args:
        surface: The surface.
        tiles: Number of tiles, of those marked as done, and of those whose checksum fails.
    """
    attributes = decay.without(surface.attributes)
    added = decay.words(attributes)
    strength, of = attributes.pop("weight_decay", None), attributes.pop("weight_decay_of", None)
    certificate = {
        name.removeprefix("certificate_"): attributes.pop(name)
        for name in list(attributes)
        if name.startswith("certificate_")
    }
    identity = of_attributes(attributes)
    for name in identity:
        attributes.pop(f"identity_{name}")
    return {
        "file": surface.path,
        "title": attributes.pop("title", ""),
        "progress": {
            "points": surface.progress,
            "tiles": tiles[0],
            "tiles_done": tiles[1],
            "tiles_damaged": tiles[2],
        },
        **(sampling := _sampling(surface)),
        **_left(surface, tiles, sampling),
        "axes": {
            name: {"min": float(axis[0]), "max": float(axis[-1]), "num": len(axis)}
            for name, axis in (("alpha", surface.alpha), ("beta", surface.beta))
            if axis is not None
        },
        **({} if surface.seeds is None else {"repeats": {"seeds": surface.seeds.tolist()}}),
        **({"points": [asdict(point) for point in surface.points]} if surface.points else {}),
        **({"weight_decay": {"strength": strength, "of": of, "words": added}} if added else {}),
        "quantities": {name: _range(surface, name) for name in surface.quantities},
        **({"curvature": curvature} if (curvature := curvature_facts(surface)) else {}),
        "certificate": certificate,
        "identity": identity,
        "provenance": attributes,
    }


def lines(facts: dict[str, Any]) -> list[str]:
    """The facts for people; identity and provenance are left to the caller."""
    progress = facts["progress"]
    damaged = f", {progress['tiles_damaged']} damaged (to be done again)" if progress["tiles_damaged"] else ""
    axes = ", ".join(
        f"{name} {axis['min']:g} to {axis['max']:g} in {axis['num']}" for name, axis in facts["axes"].items()
    )
    text = [
        f"{facts['file']}: {facts['title']}",
        f"progress     {100 * progress['points']:.1f} % of the points, "
        f"{progress['tiles_done']} of {progress['tiles']} tiles{damaged}",
    ]
    if "left" in facts:
        text += _how_to_go_on(facts["left"])
    seeds = facts.get("repeats", {}).get("seeds", [])
    text.append(f"grid         {axes}{f'; {len(seeds)} lines (seeds {ranges(seeds)})' if seeds else ''}")
    text += [_point(point) for point in facts.get("points", [])]
    if "sampling" in facts:
        text.append(f"sampled      {_accuracy(facts['sampling'])}")
    if "weight_decay" in facts:
        text.append(f"losses       {facts['weight_decay']['words']}: (λ/2)·‖θ‖² is added")
    width = max(16, *map(len, facts["quantities"]))
    for name, values in facts["quantities"].items():
        if not name.endswith(_OF_FEW_POINTS):
            text.append(f"{name:<{width}} {_describe(values)}")
    text += curvature_lines(facts.get("curvature", {}))
    certificate = facts["certificate"]
    text.append("certificate  (how far the numbers can be trusted)")
    for name in [name for name in certificate if name.endswith("_loss")]:
        engine, plain = certificate[name], certificate[f"{name}_plain"]
        apart = abs(engine - plain) / abs(plain) if plain else abs(engine - plain)
        text.append(
            f"  {name} at the center: {engine:.9g}; plain network {plain:.9g}, relative difference {apart:.1e}"
        )
    for axis in facts["axes"]:
        low, high = certificate.get(f"{axis}_norm_ratio_min"), certificate.get(f"{axis}_norm_ratio_max")
        if low is not None and high is not None:
            text.append(f"  {axis}: norm of a moved filter against the center's: {low:.7f} to {high:.7f}")
    weights = facts["provenance"].get("weights")
    if weights is not None:
        text.append(f"  weights {weights}")
    error = facts["provenance"].get("precision_error")
    if error is not None:
        text.append(f"  {facts['identity'].get('precision')}: {_off(float(error), facts['provenance'])}")
    if "cosine" in certificate:
        text.append(f"  cosine between the directions: {certificate['cosine']:.6f}")
    return text


def _point(point: Mapping[str, Any]) -> str:
    """A point that has a name."""
    far = point["outside"]
    outside = f", {100 * far:.2g} % of its way leads out of the plane" if far >= 1e-4 else ""
    return f"point        {shortened(point['name'])} at ({coordinates(point['at'])}){outside}"


def _off(error: float, attributes: Mapping[str, Any]) -> str:
    """How far an approximate precision is off."""
    points, none = (float(attributes.get(f"precision_error_{name}", 0.0)) for name in ("points", "undefined"))
    examples = f"on {attributes['precision_error_examples']:.0f} examples"
    further = (
        f"at {none:.0f} {'further ' if points else ''}points {examples} there is no loss to compare with"
    )
    if not points:
        return f"how far losses are off float32 is not known: {further}"
    off = f"losses off float32 by {error:.2g} (relative) at most, at {points:.0f} points {examples}"
    return f"{off}; {further}" if none else off


def _left(surface: Surface, tiles: tuple[int, int, int], sampling: Mapping[str, Any]) -> dict[str, Any]:
    """What is left to do and the command that does it, None where it is not known; nothing for a finished surface."""
    num, done, damaged = tiles
    left = num - done + damaged
    if left == 0 or sampling.get("sampling", {}).get("finished"):
        return {}
    return {"left": {"tiles": left, "command": command_again(surface.path, surface.attributes)}}


def _how_to_go_on(left: Mapping[str, Any]) -> list[str]:
    if left["command"] is None:
        return [
            f"left         {left['tiles']} tiles; to go on, run again what made the file: it does not say so in a way that could "
            "be checked, and what it says stands below"
        ]
    return [
        f"left         {left['tiles']} tiles; to go on, where you trust the file:",
        f"  {left['command']}",
    ]


def _sampling(surface: Surface) -> dict[str, Any]:
    """Of a surface of samples: what was asked for, what was evaluated, and how well each split is known."""
    if surface.evaluations is None:
        return {}
    errors = surface.relative_errors
    target = surface.target if surface.target is not None else np.nan
    return {
        "sampling": {
            "evaluations": surface.evaluations,
            "relative_errors": errors,
            "target": target,
            "exact": surface.evaluations == 1.0,
            "finished": surface.ending is Ended.FINISHED,
        }
    }


def _accuracy(sampling: dict[str, Any]) -> str:
    if sampling["exact"]:
        return "all evaluations of an exact surface: the values are exact"
    errors = ", ".join(f"{split} {100 * error:.3g} %" for split, error in sampling["relative_errors"].items())
    target = sampling["target"]
    aim = "exact values" if target == 0 else f"{100 * target:g} %"
    state = "finished" if sampling["finished"] else "not finished"
    return (
        f"{100 * sampling['evaluations']:.3g} % of the evaluations of an exact surface; largest standard error, of its "
        f"loss: {errors}; {state} for {aim}"
    )


def _range(surface: Surface, name: str) -> dict[str, Any]:
    """Least and greatest value with their places, and how many cells are done and not finite."""
    values, done = surface.values[name], surface.done_of(name)
    finite = done & np.isfinite(values)
    axes = [axis for axis in (surface.alpha, surface.beta, surface.seeds) if axis is not None]
    result: dict[str, Any] = {
        "done": int(done.sum()),
        "of": int(done.size),
        "not_finite": int((done & ~finite).sum()),
    }
    for key, find, empty in (("min", np.argmin, np.inf), ("max", np.argmax, -np.inf)):
        if finite.any():
            place = np.unravel_index(int(find(np.where(finite, values, empty))), values.shape)
            where = [axis[index].item() for axis, index in zip(axes, place, strict=True)]
            result[key] = {"value": float(values[place]), "at": where}
    return result


def _describe(values: dict[str, Any]) -> str:
    if "min" not in values:
        return f"no finite value in {values['done']} of {values['of']} cells"
    ends = [f"{values[key]['value']:.6g} at ({coordinates(values[key]['at'])})" for key in ("min", "max")]
    wrong = f"; {values['not_finite']} cells are NaN or infinite" if values["not_finite"] else ""
    return f"{ends[0]} to {ends[1]}{wrong}"
