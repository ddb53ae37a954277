"""What a map of curvature shows: how convex it is, where it is not, and how well that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.storage.surface.value import Surface
from mpi_landscape.vocabulary import RESOLVED
from mpi_landscape.wording import coordinates

# The ratio beyond which a place counts as not convex: Li et al. 2018, arXiv:1712.09913, section 6, call what is small convex.
NOT_CONVEX = 0.1


def curvature_facts(surface: Surface) -> dict[str, Any]:
    """By split, the facts about the eigenvalues at the points that are done; empty where none were computed."""
    splits = [name.removesuffix("_lambda_max") for name in surface.values if name.endswith("_lambda_max")]
    return {split: _facts_of(surface, split) for split in splits}


def rounding_of(surface: Surface, end: str) -> NDArray[np.float64]:
    """What an end may be by rounding alone, ten times the noise of a product; 0 where that is not known.

    Args:
        surface: One that has the end.
        end: `train_lambda_min`, `train_lambda_max_normalized`, ...

    Returns:
        Of the shape of the grid, in the units of the end.
    """
    split = end.partition("_lambda_")[0]
    noise = surface.values.get(f"{split}_lambda_noise", np.zeros(surface.values[end].shape))
    if end.endswith("_normalized"):
        # It was measured in the network's own coordinates; relative to the largest eigenvalue it is alike.
        own, there = (surface.values.get(f"{split}_lambda_max{each}") for each in ("", "_normalized"))
        with np.errstate(divide="ignore", invalid="ignore"):
            noise = noise if own is None or there is None else noise * np.abs(there / own)
    return RESOLVED * np.fmax(np.where(np.isfinite(noise), noise, 0.0), 0.0)


def _facts_of(surface: Surface, split: str) -> dict[str, Any]:
    values, done = surface.values, surface.done[split]
    top = values[f"{split}_lambda_max"]
    low = values.get(f"{split}_lambda_min")
    finite = done & np.isfinite(top)
    products = values[f"{split}_hessian_products"]
    facts: dict[str, Any] = {
        "points": int(done.sum()),
        "not_finite": int((done & ~finite).sum()),
        "products": int(np.nansum(np.where(done, products, 0.0))),
    }
    if not finite.any():
        return facts
    facts["sharpest"] = _place(surface, top, finite, np.argmax)
    facts["largest_residual"] = _largest_residual(surface, split, finite)
    if low is None:
        return facts
    above = np.abs(top) <= rounding_of(surface, f"{split}_lambda_max")
    below = np.abs(low) <= rounding_of(surface, f"{split}_lambda_min")
    # A Ritz value lies above the least eigenvalue: one whose residual is large is still less than zero.
    resolved = finite & np.isfinite(low) & ~below
    told = resolved & ((low < 0) | (values[f"{split}_lambda_min_residual"] <= np.abs(low) / RESOLVED))
    facts["unresolved"] = int((finite & ~told).sum())
    ratio = values[f"{split}_curvature_ratio"]
    if resolved.any():
        facts["most_negative"] = _place(surface, low, resolved, np.argmin)
        facts["largest_ratio"] = _place(surface, ratio, resolved, np.argmax)
        # As in the pictures: what is positive is convex whatever its size, and nothing is said where both ends are rounding.
        shown = finite & np.isfinite(low) & ~(above & below)
        facts["not_convex"] = float((resolved & (low < 0) & (ratio > NOT_CONVEX)).sum() / shown.sum())
    difference = values.get(f"{split}_lambda_difference")
    if difference is not None:
        looked = finite & np.isfinite(difference)
        facts["checked"] = int(looked.sum())
        if looked.any():
            facts["largest_difference"] = _place(surface, difference, looked, np.argmax)
    return facts


def _largest_residual(surface: Surface, split: str, finite: Any) -> float:
    """The largest residual, each relative to its own eigenvalue."""
    found = [0.0]
    for end in ("max", "min"):
        value = surface.values.get(f"{split}_lambda_{end}")
        if value is None:
            continue
        residual = surface.values[f"{split}_lambda_{end}_residual"]
        usable = finite & np.isfinite(residual) & (value != 0)
        if end == "min":
            usable &= np.abs(value) > rounding_of(surface, f"{split}_lambda_min")
        if usable.any():
            found.append(float((residual[usable] / np.abs(value[usable])).max()))
    return max(found)


def _place(surface: Surface, values: Any, usable: Any, find: Any) -> dict[str, Any]:
    worst = -np.inf if find is np.argmax else np.inf
    place = np.unravel_index(int(find(np.where(usable, values, worst))), values.shape)
    axes = [axis for axis in (surface.alpha, surface.beta, surface.seeds) if axis is not None]
    return {
        "value": float(values[place]),
        "at": [axis[index].item() for axis, index in zip(axes, place, strict=True)],
    }


def curvature_lines(facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The facts in lines for people."""
    return [line for split, each in facts.items() for line in _lines_of(split, each)]


def _lines_of(split: str, facts: Mapping[str, Any]) -> Sequence[str]:
    lines = []
    if "sharpest" in facts:
        lines.append(f"curvature    {split}: λmax at most {_at(facts['sharpest'])}")
    if "largest_ratio" in facts:
        lines.append(f"             λmin at least {_at(facts['most_negative'])}")
        lines.append(
            f"             |λmin/λmax| at most {_at(facts['largest_ratio'])}; λmin negative and the ratio "
            f"beyond {NOT_CONVEX:g} at {100 * facts['not_convex']:.3g} % of the points"
        )
    if facts.get("unresolved"):
        lines.append(
            f"             at {facts['unresolved']} of {facts['points']} points λmin is 0 within the rounding of products "
            f"or its residual: nothing is known of its sign there"
        )
    if facts["not_finite"]:
        lines.append(
            f"             at {facts['not_finite']} of {facts['points']} points the loss is not finite"
        )
    if "largest_residual" in facts:
        lines.append(
            f"             largest residual {100 * facts['largest_residual']:.2g} % of its eigenvalue; {facts['products']:,} "
            f"products in all, {facts['products'] / max(1, facts['points']):.3g} a point"
        )
    if "checked" in facts:
        worst = facts.get("largest_difference")
        found = (
            f"λmin differed by {100 * worst['value']:.2g} % at most, at ({coordinates(worst['at'])})"
            if worst
            else "none"
        )
        lines.append(f"             {facts['checked']} points found again by a cold run: {found}")
    return lines


def _at(place: Mapping[str, Any]) -> str:
    return f"{place['value']:.6g} at ({coordinates(place['at'])})"
