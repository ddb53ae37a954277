"""What is in the file of a path: how far it is, ends, barriers, pivots, what it cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpi_landscape.storage.connection.value import Connection
from mpi_landscape.storage.identity import of_attributes

_OWN = (
    "method",
    "batch_norm",
    "gradient_passes",
    "loss_passes",
    "line_length",
    "splits",
    "is_chain",
    "title",
)


def summarize_connection(connection: Connection) -> dict[str, Any]:
    """The facts about a path, nested by theme; losses in their units, accuracies as fractions."""
    attributes = dict(connection.attributes)
    identity = of_attributes(attributes)
    for name in identity:
        attributes.pop(f"identity_{name}")
    said = {name: attributes.pop(name, None) for name in _OWN}
    return {
        "file": connection.path,
        "title": said["title"] or "",
        "method": said["method"],
        "progress": {"points": len(connection.t), "points_done": int(connection.done.sum())},
        "batch_norm": said["batch_norm"],
        "length": {"path": float(connection.length[-1]), "line": said["line_length"]},
        "quantities": {name: _ends(connection, name) for name in connection.values},
        "barriers": connection.barriers,
        "pivots": {
            "number": len(connection.pivots.t) - 2,
            "on_path": connection.pivots.on_path,
            "farthest": float(connection.pivots.distance.max()),
            "checkpoints": list(connection.pivots.checkpoints),
        },
        "cost": {"gradient_passes": said["gradient_passes"], "loss_passes": said["loss_passes"]},
        "identity": identity,
        "provenance": attributes,
    }


def connection_lines(facts: dict[str, Any]) -> list[str]:
    """The facts for people; identity and provenance are left to the caller."""
    progress, length, pivots, cost = (facts[name] for name in ("progress", "length", "pivots", "cost"))
    kind = "pivot" if pivots["on_path"] else "bend beside the path"
    kind += "s" if pivots["number"] > 1 else ""
    text = [
        f"{facts['file']}: {facts['title']}",
        f"progress         {progress['points_done']} of {progress['points']} points",
        f"path             {facts['method']}, {length['path']:.6g} long; the straight line {length['line']:.6g}",
    ]
    if pivots["number"]:
        text.append(
            f"pivots           {pivots['number']} {kind}, at most {pivots['farthest']:.6g} from the straight line"
        )
    if facts["batch_norm"]:
        text.append(f"batch norm       {facts['batch_norm']}")
    for name, values in facts["quantities"].items():
        if values:
            text.append(
                f"{name:<16} {values['start']:.6g} at the start, {values['end']:.6g} at the end, "
                f"from {values['least']:.6g} to {values['greatest']:.6g}"
            )
    for name, value in facts["barriers"].items():
        if not np.isnan(value):
            text.append(f"{name.replace('_', ' '):<16} {value:.6g}")
    if cost["gradient_passes"]:
        text.append(
            f"cost             {cost['gradient_passes']:.6g} gradient passes over the data, {cost['loss_passes']:.6g} without"
        )
    return text


def _ends(connection: Connection, name: str) -> dict[str, float]:
    """Values at both ends and the range of all that are known; nothing where one of the ends is not."""
    values, done = connection.values[name], connection.done
    if not (done[0] and done[-1]):
        return {}
    known = values[done]
    return {
        "start": float(values[0]),
        "end": float(values[-1]),
        "least": float(np.min(known)),
        "greatest": float(np.max(known)),
    }
