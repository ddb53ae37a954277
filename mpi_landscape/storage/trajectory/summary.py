"""What is in a trajectory file: checkpoints, axes, how much of the way the plane shows, losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from mpi_landscape.storage.identity import of_attributes
from mpi_landscape.storage.trajectory.value import Trajectory

# What is said elsewhere, or is for readers alone.
_SAID = (
    "alpha_variation",
    "beta_variation",
    "alpha_norm",
    "beta_norm",
    "kind",
    "num_items",
    "results",
    "schema",
    "splits",
)
_HIDDEN = ("axes", "cosine", "expected_cosine", "alpha_random_cosines", "beta_random_cosines")


def summarize_trajectory(trajectory: Trajectory) -> dict[str, Any]:
    """The facts about trajectories, nested by theme."""
    attributes = dict(trajectory.attributes)
    identity = of_attributes(attributes)
    for name in (*(f"identity_{each}" for each in identity), *_SAID):
        attributes.pop(name, None)
    known = {name: attributes.pop(name, None) for name in _HIDDEN}
    return {
        "file": trajectory.path,
        "title": attributes.pop("title", ""),
        "progress": {"checkpoints": len(trajectory.done), "done": int(trajectory.done.sum())},
        "axes": {
            "kind": known["axes"],
            "variation": trajectory.shares,
            "components": None if trajectory.variation is None else trajectory.variation.tolist(),
            "cosine": known["cosine"],
            "expected_cosine": known["expected_cosine"],
            "random_cosines": {name: known[f"{name}_random_cosines"] for name in ("alpha", "beta")},
        },
        "trajectories": [_of(trajectory, number) for number in range(len(trajectory.names))],
        "identity": identity,
        "provenance": attributes,
    }


def _of(trajectory: Trajectory, number: int) -> dict[str, Any]:
    places = trajectory.way(number)
    if not len(places):
        return {"name": trajectory.names[number], "checkpoints": 0}
    furthest = places[int(np.argmax(trajectory.distance[places]))]
    return {
        "name": trajectory.names[number],
        "checkpoints": len(places),
        "epochs": [int(trajectory.epoch[places[0]]), int(trajectory.epoch[places[-1]])],
        "from": [float(trajectory.alpha[places[0]]), float(trajectory.beta[places[0]])],
        "to": [float(trajectory.alpha[places[-1]]), float(trajectory.beta[places[-1]])],
        "distance": {
            "largest": float(trajectory.distance[furthest]),
            "epoch": int(trajectory.epoch[furthest]),
        },
        "quantities": {
            name: {"first": float(values[places[0]]), "last": float(values[places[-1]])}
            for name, values in trajectory.values.items()
        },
    }


def trajectory_lines(facts: dict[str, Any]) -> list[str]:
    """The facts for people; identity and provenance are left to the caller."""
    progress, axes = facts["progress"], facts["axes"]
    shares = ", ".join(f"{name} {100 * share:.2f} %" for name, share in axes["variation"].items())
    text = [
        f"{facts['file']}: {facts['title']}",
        f"progress         {progress['done']} of {progress['checkpoints']} checkpoints",
        f"axes             {axes['kind']}; of the variance of the checkpoints {shares}",
    ]
    if axes["cosine"] is not None and axes["expected_cosine"] is not None:
        measured = [abs(each) for found in axes["random_cosines"].values() for each in found or ()]
        against = f"; of the axes with random ones {np.mean(measured):.2g} on average" if measured else ""
        text.append(
            f"cosine           {axes['cosine']:.6f} between the axes; {axes['expected_cosine']:.2g} is expected of two random "
            f"directions{against}"
        )
    for each in facts["trajectories"]:
        if not each["checkpoints"]:
            continue
        named = f"{each['name']}: " if each["name"] else ""
        ends = [f"({point[0]:.4g}, {point[1]:.4g})" for point in (each["from"], each["to"])]
        text.append(
            f"path             {named}{each['checkpoints']} checkpoints, epochs {each['epochs'][0]} to {each['epochs'][1]}, from "
            f"{ends[0]} to {ends[1]}; out of the plane at most {each['distance']['largest']:.4g}, at epoch "
            f"{each['distance']['epoch']}"
        )
        width = max(16, *map(len, each["quantities"]))
        text += [
            f"{name:<{width}} {values['first']:.6g} at first, {values['last']:.6g} at last"
            for name, values in each["quantities"].items()
        ]
    return text
