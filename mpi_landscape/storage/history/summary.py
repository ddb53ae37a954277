"""What is in a training history: how far it is, best and last values, learning rate, weight norm, duration."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mpi_landscape.storage.history.records import History
from mpi_landscape.storage.identity import of_attributes


def summarize_history(history: History) -> dict[str, Any]:
    """The facts about a history, nested by theme; losses in nats per example, accuracies as fractions."""
    attributes = dict(history.attributes)
    identity = of_attributes(attributes)
    for name in identity:
        attributes.pop(f"identity_{name}")
    results = [f"{split}_{kind}" for split in history.splits for kind in ("loss", "accuracy")]
    trained = history.done & (history.epoch > 0)
    return {
        "file": history.path,
        "title": attributes.pop("title", ""),
        "progress": {
            "epochs": int(history.epoch[-1]),
            "epochs_done": int(trained.sum()),
            "phases_begun": len(np.unique(history.phase[history.done])),
        },
        "quantities": {name: _ends(history, name) for name in results},
        "learning_rate": _last(history, "learning_rate", trained),
        "weight_norm": {
            "first": _first(history, "weight_norm"),
            "last": _last(history, "weight_norm", history.done),
        },
        "seconds": _duration(history.values["seconds"][trained]),
        "identity": identity,
        "provenance": attributes,
    }


def history_lines(facts: dict[str, Any]) -> list[str]:
    """The facts for people; identity and provenance are left to the caller."""
    progress = facts["progress"]
    phases = f", phase {progress['phases_begun']}" if progress["phases_begun"] > 1 else ""
    text = [
        f"{facts['file']}: {facts['title']}",
        f"progress         {progress['epochs_done']} of {progress['epochs']} epochs{phases}",
    ]
    for name, values in facts["quantities"].items():
        if values["known"]:
            text.append(f"{name:<16} {_describe(values)}")
    if facts["learning_rate"] is not None:
        text.append(f"learning rate    {_at(facts['learning_rate'])}")
    norm = facts["weight_norm"]
    if norm["first"] is not None:
        text.append(f"weight norm      {_at(norm['first'])}, {_at(norm['last'])}")
    if facts["seconds"]:
        seconds = facts["seconds"]
        text.append(
            f"seconds          {seconds['median']:.4g} per epoch (median), {seconds['sum']:.6g} in all"
        )
    return text


def _ends(history: History, name: str) -> dict[str, Any]:
    """Last and best value of a loss or an accuracy, and in how many epochs it is known and not finite."""
    values, finite = history.values[name], np.isfinite(history.values[name])
    result: dict[str, Any] = {
        "known": int((history.done & ~np.isnan(values)).sum()),
        "infinite": int((history.done & np.isinf(values)).sum()),
        "last": _last(history, name, history.done),
    }
    if finite.any():
        # The least of a loss, the greatest of an accuracy.
        score = values if name.endswith("_loss") else -values
        best = int(np.argmin(np.where(finite, score, np.inf)))
        result["best"] = _pick(history, name, best)
    return result


def _first(history: History, name: str) -> dict[str, Any] | None:
    known = np.flatnonzero(~np.isnan(history.values[name]))
    return _pick(history, name, int(known[0])) if known.size else None


def _last(history: History, name: str, among: NDArray[np.bool_]) -> dict[str, Any] | None:
    known = np.flatnonzero(among & ~np.isnan(history.values[name]))
    return _pick(history, name, int(known[-1])) if known.size else None


def _pick(history: History, name: str, row: int) -> dict[str, Any]:
    return {"value": float(history.values[name][row]), "epoch": int(history.epoch[row])}


def _duration(seconds: NDArray[np.float64]) -> dict[str, float]:
    """Median over the epochs, which a pause or a first epoch does not move, and the sum."""
    known = seconds[np.isfinite(seconds)]
    return {"median": float(np.median(known)), "sum": float(known.sum())} if known.size else {}


def _describe(values: dict[str, Any]) -> str:
    infinite = f"; {values['infinite']} infinite" if values["infinite"] else ""
    if "best" not in values:
        return f"never finite{infinite}"
    return f"{_at(values['last'])}, best {_at(values['best'])}{infinite}"


def _at(value: dict[str, Any]) -> str:
    return f"{value['value']:.6g} at epoch {value['epoch']}"
