"""From what gpu.py measured to Markdown. Needs nothing but Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Row = dict[str, Any]
Part = dict[str, Any]

# Dense peaks of the vendor's data sheets, in TFLOP/s, by what is in a card's name; the first that fits.
PEAKS: dict[str, dict[str, float]] = {
    "H100 PCIe": {"float32": 51.2, "tf32": 378, "bfloat16": 756},
    "H100 NVL": {"float32": 60, "tf32": 417.5, "bfloat16": 835.5},
    "H100": {"float32": 66.9, "tf32": 494.7, "bfloat16": 989.4},
    "H200": {"float32": 66.9, "tf32": 494.7, "bfloat16": 989.4},
    "A100": {"float32": 19.5, "tf32": 156, "bfloat16": 312},
    "L40S": {"float32": 91.6, "tf32": 183, "bfloat16": 362},
    "V100": {"float32": 15.7},
    "T4": {"float32": 8.1},
}


def peak(card: str | None, precision: str) -> float | None:
    """FLOP/s that a card's vendor names; None where this table does not know it."""
    for name, peaks in PEAKS.items():
        if name in (card or ""):
            return peaks[precision] * 1e12 if precision in peaks else None
    return None


def progress(name: str, part: Part) -> str:
    """A line for whoever waits."""
    return f"{name}: {part['status']} after {part['seconds']:.0f} s (limit {part['limit']:.0f} s), {_brief(name, part)}"


def _brief(name: str, part: Part) -> str:
    rows = part["rows"]
    if part["status"] != "done" and not rows:
        return next((line for line in reversed(part["said"]) if line.strip()), "nothing said")
    if name == "tests":
        outcomes = [row["outcome"] for row in rows]
        return ", ".join(f"{outcomes.count(each)} {each}" for each in dict.fromkeys(outcomes)) or "no tests"
    if name == "steps":
        return f"largest relative difference {max(row['difference'] for row in rows):.1e}"
    if name == "bits":
        return f"{sum(not row['differing'] for row in rows)} of {len(rows)} runs have the same bits"
    return f"{len(rows)} results"


def report(found: dict[str, Any]) -> str:
    """All of it."""
    parts: dict[str, Part] = found["parts"]
    known: Row = next(iter(parts.get("facts", {}).get("rows", [])), {})
    lines = [f"# Measured on {known.get('card') or known.get('processor') or 'an unknown machine'}", ""]
    lines += [f"`{found['command']}`, {found['date']}" + (", in small" if found["small"] else "") + ".", ""]
    lines += [f"- {key}: {value}" for key, value in known.items() if value is not None]
    points = [(part, row) for part in parts.values() for row in part["rows"] if "flops" in row]
    for title, table in (
        ("Parts", _parts(parts)),
        ("One point", _points([row for _, row in points], known.get("card"))),
        ("Launched and recorded", _launches(parts)),
        ("Training", _training(parts)),
        ("The same bits", _bits(parts)),
        ("Every step against the plain network", _steps(parts)),
        ("Tests that did not pass", _tests(parts)),
    ):
        if len(table) > 2:
            lines += ["", f"## {title}", "", *table]
    return "\n".join(lines) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines]


def _rows(parts: dict[str, Part], name: str) -> list[Row]:
    found: list[Row] = parts.get(name, {}).get("rows", [])
    return found


def _parts(parts: dict[str, Part]) -> list[str]:
    return _table(
        ("part", "status", "seconds", "limit", "in short"),
        (
            (name, part["status"], f"{part['seconds']:.0f}", f"{part['limit']:.0f}", _brief(name, part))
            for name, part in parts.items()
        ),
    )


def _points(rows: Sequence[Row], card: str | None) -> list[str]:
    header = (
        *("network", "images", "precision", "ours, s", "bare forward, s", "reference, s", "reference / ours"),
        *("ours, of peak", "forward, of peak", "memory", "forward's form", "engine"),
    )
    table = []
    for network in dict.fromkeys(row["network"] for row in rows):
        own = {(row["side"], row["precision"]): row for row in rows if row["network"] == network}
        reference = own.get(("reference", "float32"), {}).get("seconds_per_point")
        for precision in dict.fromkeys(precision for _, precision in own):
            ours, forward = (own.get((side, precision), {}) for side in ("ours", "forward"))
            first = next(iter(own.values()))
            seconds = [each.get("seconds_per_point") for each in (ours, forward)]
            ratio = reference / seconds[0] if reference and seconds[0] else None
            work, most = first["flops"] * first["images"], peak(card, precision)
            shares = [100 * work / each / most if each and most else None for each in seconds]
            table.append(
                (
                    *(network, f"{first['images']} of {first['size']} x {first['size']}", precision),
                    *map(_number, (*seconds, reference, ratio)),
                    *(f"{_number(share)} %" if share else "–" for share in shares),
                    *(_memory(ours), forward.get("form", "–"), ours.get("engine", ours.get("refused", "–"))),
                )
            )
    return _table(header, table)


def _launches(parts: dict[str, Part]) -> list[str]:
    return _table(
        ("resnet20 by", "batch", "s a point", "loss", "memory", "engine"),
        (
            (
                *(row["side"], str(row["batch_size"]), _number(row["seconds_per_point"])),
                *(f"{row['loss']:.9g}", _memory(row), row["engine"]),
            )
            for row in _rows(parts, "launches")
        ),
    )


def _training(parts: dict[str, Part]) -> list[str]:
    names = {"ours": "mpi_landscape.train", "plain": "plain loader loop"}
    return _table(
        ("resnet20 by", "images/s", "memory"),
        ((names[row["side"]], f"{row['rate']:,.0f}", _memory(row)) for row in _rows(parts, "training")),
    )


def _bits(parts: dict[str, Part]) -> list[str]:
    return _table(
        ("precision", "run", "differing arrays", "seconds with the start"),
        (
            (
                *(row["precision"], row["run"]),
                *(", ".join(row["differing"]) or "none", _number(row["seconds"])),
            )
            for row in _rows(parts, "bits")
        ),
    )


def _steps(parts: dict[str, Part]) -> list[str]:
    return _table(
        ("network", "tried", "engine", "largest relative difference", "dropped"),
        (
            (
                *(row["network"], row["steps"], row["engine"], f"{row['difference']:.1e}"),
                "; ".join(row["dropped"]) or "–",
            )
            for row in _rows(parts, "steps")
        ),
    )


def _tests(parts: dict[str, Part]) -> list[str]:
    return _table(
        ("test", "outcome", "said"),
        (
            (row["test"], row["outcome"], row["said"] or "–")
            for row in _rows(parts, "tests")
            if row["outcome"] != "passed"
        ),
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def _memory(row: Row) -> str:
    value = row.get("peak_memory")
    return "–" if value is None else f"{value / 2**30:.2f} GiB"
