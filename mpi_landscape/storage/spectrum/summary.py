"""What is in a spectrum file: its ends, how sharp the point is, how the rest is spread, what it cost."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mpi_landscape.storage.identity import of_attributes
from mpi_landscape.storage.spectrum.value import APART, Spectrum

_SAID = (
    "kind",
    "schema",
    "parts",
    "num_values",
    "num_kept",
    "num_probes",
    "num_steps",
    "num_largest",
    "num_parameters",
    "loss_units",
)
_MOST_SHOWN = 5


def summarize_spectrum(spectrum: Spectrum) -> dict[str, Any]:
    """The facts about a spectrum, nested by theme."""
    attributes = dict(spectrum.attributes)
    identity = of_attributes(attributes)
    for name in (*(f"identity_{each}" for each in identity), *_SAID):
        attributes.pop(name, None)
    own = {
        name: attributes.pop(name, None)
        for name in ("title", "operator", "parameters", "split", "checkpoint")
    }
    return {
        "file": spectrum.path,
        "title": own["title"] or "",
        "operator": own["operator"],
        "parameters": own["parameters"],
        "num_parameters": spectrum.num_parameters,
        "split": own["split"],
        "checkpoint": own["checkpoint"],
        "loss_units": str(spectrum.attributes.get("loss_units", "")),
        "loss": spectrum.loss,
        "gradient_norm": spectrum.gradient_norm,
        "spectrum": _of(spectrum),
        **({} if spectrum.normalized is None else {"normalized": _of(spectrum.normalized)}),
        "identity": identity,
        "provenance": attributes,
    }


def _of(spectrum: Spectrum) -> dict[str, Any]:
    """The facts in one kind of coordinates."""
    probes = spectrum.done[1:]
    return {
        "progress": {"parts": len(spectrum.done), "done": int(spectrum.done.sum())},
        "largest": spectrum.largest.tolist(),
        "smallest": spectrum.smallest.tolist(),
        "residual_max": float(spectrum.residuals[0]) if spectrum.largest.size else math.nan,
        "residual_min": float(spectrum.residuals[-1]) if spectrum.smallest.size else math.nan,
        "noise": spectrum.noise,
        # What rounding may add to or take from an eigenvalue near zero.
        "noise_min": spectrum.noise * _size(spectrum),
        "ratio": spectrum.ratio,
        "trace": spectrum.trace,
        "trace_stderr": spectrum.moments.trace_stderr,
        "trace_per_number": spectrum.trace_per_number,
        "frobenius": spectrum.frobenius,
        "frobenius_stderr": spectrum.moments.frobenius_stderr,
        "effective_dimension": spectrum.effective_dimension(),
        "participation_ratio": spectrum.participation_ratio,
        "edge": spectrum.edge,
        "outliers": spectrum.num_outliers,
        "probes": int(probes.sum()),
        "products": float(np.nansum(spectrum.num_products)),
    }


def _size(spectrum: Spectrum) -> float:
    found = np.abs(spectrum.eigenvalues[np.isfinite(spectrum.eigenvalues)])
    return float(found.max()) if found.size else math.nan


def spectrum_lines(facts: dict[str, Any]) -> list[str]:
    """The facts for people; identity and provenance are left to the caller."""
    center = f" of {facts['checkpoint']}" if facts["checkpoint"] else ""
    text = [
        f"{facts['file']}: {facts['title']}",
        f"operator         {facts['operator']} of the {facts['split']} loss{center}, {facts['num_parameters']:,} numbers "
        f"({facts['parameters']})",
        f"loss             {facts['loss']:.6g} {facts['loss_units']}; norm of the gradient {facts['gradient_norm']:.6g}",
        *_lines(facts["spectrum"]),
    ]
    if "normalized" in facts:
        text += [
            "normalized       the same where each filter's norm is the unit",
            *(f"  {line}" for line in _lines(facts["normalized"])),
        ]
    return text


def _lines(facts: dict[str, Any]) -> list[str]:
    progress = facts["progress"]
    text = [
        f"progress         {progress['done']} of {progress['parts']} parts, {facts['products']:.0f} products"
    ]
    if facts["largest"]:
        text.append(
            f"sharpness        {facts['largest'][0]:.6g} (λmax, residual {facts['residual_max']:.2g})"
        )
    if facts["smallest"]:
        least, noise = facts["smallest"][-1], facts["noise_min"]
        unsure = "; not told from zero" if abs(least) < 10 * noise else ""
        text.append(
            f"least            {least:.6g} (λmin, residual {facts['residual_min']:.2g}, rounding about {noise:.2g}{unsure}); "
            f"|λmin/λmax| {facts['ratio']:.4g}"
        )
    for name in ("largest", "smallest"):
        values = facts[name]
        if len(values) > 1:
            shown = values[:_MOST_SHOWN] if name == "largest" else values[-_MOST_SHOWN:]
            more = f" (of {len(values)})" if len(values) > len(shown) else ""
            text.append(f"{name:<16} {', '.join(f'{each:.4g}' for each in shown)}{more}")
    if facts["probes"]:
        text += [
            f"trace            {_with_error(facts['trace'], facts['trace_stderr'])}; per number {facts['trace_per_number']:.4g}",
            f"Frobenius norm   {_with_error(facts['frobenius'], facts['frobenius_stderr'])}",
            f"outliers         {facts['outliers']} of the largest are above {APART:g} times the edge of the bulk, "
            f"{facts['edge']:.4g}",
            f"dimension        {facts['effective_dimension']:.4g} effective, Σ λ / (λ + 1) (Maddox et al. 2020); "
            f"{facts['participation_ratio']:.4g} by participation, (Σ λ)² / Σ λ²",
        ]
    return text


def _with_error(value: float, error: float) -> str:
    return f"{value:.6g}" + ("" if math.isnan(error) else f" ± {error:.2g}")
