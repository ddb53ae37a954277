"""What is in a file of weights: what was counted, and the norm of every checkpoint."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpi_landscape.storage.weights_file import WeightCounts


def summarize_weights(counts: WeightCounts) -> dict[str, Any]:
    """The facts about a file of weights, nested by theme."""
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(np.square(counts.norm).sum(axis=1))
    return {
        "file": counts.path,
        "counted": {
            "numbers": int(counts.sizes[counts.counted].sum()),
            "of_numbers": int(counts.sizes.sum()),
            "tensors": int(counts.counted.sum()),
            "of_tensors": len(counts.tensors),
        },
        "bins": {
            "number": len(counts.bin_edges) - 1,
            "min": float(counts.bin_edges[0]),
            "max": float(counts.bin_edges[-1]),
        },
        "checkpoints": [
            {
                "name": name,
                "file": source,
                "norm": float(norms[place]),
                "outside": int(counts.below[place] + counts.above[place]),
                "not_finite": int(counts.not_finite[place]),
            }
            for place, (name, source) in enumerate(zip(counts.checkpoints, counts.sources, strict=True))
        ],
        "identity": {},
        "provenance": dict(counts.attributes),
    }


def weights_lines(facts: dict[str, Any]) -> list[str]:
    """The facts for people; provenance is left to the caller."""
    counted, bins = facts["counted"], facts["bins"]
    lines = [
        f"weights     {counted['numbers']:,} of {counted['of_numbers']:,} numbers counted, of {counted['tensors']} of "
        f"{counted['of_tensors']} tensors; {bins['number']} bins from {bins['min']:.6g} to {bins['max']:.6g}"
    ]
    for each in facts["checkpoints"]:
        notes = [f"{each['outside']:,} outside the bins"] * bool(each["outside"])
        notes += [f"{each['not_finite']:,} not finite"] * bool(each["not_finite"])
        said = "; ".join([f"norm {each['norm']:.6g}", *notes])
        lines.append(f"checkpoint  {each['name']}: {said}")
    return lines
