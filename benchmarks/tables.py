"""From measurements to Markdown tables. Needs nothing but Python."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from neighbours import PACKAGES
from workloads import WORKLOADS

Row = dict[str, Any]


def report(found: dict[str, Any]) -> str:
    """Everything that engine.py prints.

    Args:
        found: What it measured.
    """
    settings, rows, kernels = found["settings"], found["rows"], found["kernels"]
    ranks = settings["ranks"]
    known = rows[0]["known"]
    head = [
        f"{known['processor']}; {ranks} ranks, one core and one thread each",
        f"{known['versions']}; {', '.join(PACKAGES.values())}",
        f"medians of {settings['repeats']} runs; {settings['points']} points of the other sides, all of them points of ours",
    ]
    wishes = [line for row in rows for line in wish_rows(row, ranks)]
    parts = [
        "\n".join(head),
        "Seconds on one core for one point; in brackets, how many times faster than the reference protocol:",
        table(COST, [cost_row(row, ranks, kernels) for row in rows]),
        *(["Wished-for ratios to the reference protocol:", table(WISHES, wishes)] if wishes else []),
        "Seconds on one core for 1,000 examples at one point, and where the reference protocol's time goes:",
        table(RATES, [rate_row(row, ranks) for row in rows]),
        "The hardware's limit, GFLOP/s of one core while all are busy (FLOPs by torch.utils.flop_counter):",
        table(LIMITS, [limit_row(row, kernels) for row in rows]),
        "\n".join(kernel_lines(kernels)),
        "\n".join(notes(rows)),
    ]
    return "\n\n".join(filter(None, parts))


COST = ("network", "examples", "reference protocol", *PACKAGES, "ours plain", "ours float32", "ours bfloat16")
COST += (
    "float32: largest deviation",
    "bfloat16: deviation",
    "float32: % of best forward",
    "% of best convolution",
)
WISHES = ("network", "precision", "wished", "least", "found", "deviation of the losses")
RATES = ("network", "reference protocol", "its network", "its loading", *PACKAGES)
RATES += ("ours plain", "ours float32", "ours bfloat16")
LIMITS = (
    "network",
    "MFLOP an example",
    "best forward float32",
    "form",
    "ours float32 (% of it, of the convolution)",
)
LIMITS += ("best forward bfloat16", "form", "ours bfloat16 (likewise)")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cost(row: Row, side: str, ranks: int) -> float | None:
    """Core-seconds for a point: the median over the runs; None where there is none."""
    runs = row["runs"].get(side, [])
    return statistics.median(run["seconds"] * ranks / run["points"] for run in runs) if runs else None


def rate(row: Row, side: str, ranks: int) -> float | None:
    """FLOP/s of a core."""
    seconds = cost(row, side, ranks)
    return row["known"]["flops"] * row["known"]["images"] / seconds if seconds else None


def best_forward(row: Row, precision: str) -> tuple[float, str]:
    """FLOP/s and form of the network's best forward pass: the median over the runs."""
    runs = sorted(tuple(run[precision]["forward"]) for run in row["runs"]["forward"])
    return runs[len(runs) // 2]


def deviation(row: Row, side: str) -> float | None:
    """Largest relative difference of a side's losses from the reference protocol's, at the points of both.

    Where there are none (landscaper), from our own plain or float32 ones.
    """
    mine = losses(row, side)
    for other in ("reference", "plain", "float32"):
        pairs = [(mine[point], value) for point, value in losses(row, other).items() if point in mine]
        if pairs:
            return max(abs(one - value) / abs(value) for one, value in pairs)
    return None


def losses(row: Row, side: str) -> dict[tuple[float, float], float]:
    """Losses by point, of the first run."""
    runs = row["runs"].get(side, [])
    return (
        {(round(alpha, 9), round(beta, 9)): loss for alpha, beta, loss in runs[0]["losses"]} if runs else {}
    )


def cost_row(row: Row, ranks: int, kernels: dict[str, Any]) -> list[str]:
    """Main table."""
    base = cost(row, "reference", ranks)
    assert base is not None
    cells = [row["name"], f"{row['known']['images']:,}", number(base)]
    for side in (*PACKAGES, "plain", "float32", "bfloat16"):
        seconds = cost(row, side, ranks)
        cells.append(f"{number(seconds)} ({base / seconds:.2f})" if seconds else "–")
    cells += [small(deviation(row, side)) for side in ("float32", "bfloat16")]
    reached = rate(row, "float32", ranks)
    for limit in (best_forward(row, "float32")[0], kernels["float32"]["convolution"][0]):
        cells.append(f"{100 * reached / limit:.0f}" if reached else "–")
    return cells


def wish_rows(row: Row, ranks: int) -> list[list[str]]:
    """Wishes beside what was found."""
    base = cost(row, "reference", ranks)
    assert base is not None
    lines = []
    for side in ("float32", "bfloat16"):
        wish = getattr(WORKLOADS[row["name"]], side)
        if wish is None:
            continue
        seconds = cost(row, side, ranks)
        found = f"{base / seconds:.2f}" if seconds else "not measured"
        lines.append([row["name"], side, f"{wish[0]:g}", f"{wish[1]:g}", found, small(deviation(row, side))])
    return lines


def rate_row(row: Row, ranks: int) -> list[str]:
    """The same costs for 1,000 examples."""
    scale = 1000 / row["known"]["images"]
    base = cost(row, "reference", ranks)
    assert base is not None
    shares = [
        statistics.median(run[part] for run in row["runs"]["reference"]) for part in ("network", "loading")
    ]
    cells = [row["name"], number(base * scale), *(f"{100 * share:.0f} %" for share in shares)]
    for side in (*PACKAGES, "plain", "float32", "bfloat16"):
        seconds = cost(row, side, ranks)
        cells.append(number(seconds * scale) if seconds else "–")
    return cells


def limit_row(row: Row, kernels: dict[str, Any]) -> list[str]:
    """The network's best forward pass."""
    ranks = row["ranks"]
    cells = [row["name"], f"{row['known']['flops'] / 1e6:.3g}"]
    for side in ("float32", "bfloat16"):
        limit, form = best_forward(row, side)
        reached = rate(row, side, ranks)
        cells += [f"{limit / 1e9:.1f}", form]
        if reached is None:
            cells.append("–")
            continue
        parts = [100 * reached / each for each in (limit, kernels[side]["convolution"][0])]
        cells.append(f"{reached / 1e9:.1f} ({parts[0]:.0f} %, {parts[1]:.0f} %)")
    return cells


def kernel_lines(kernels: dict[str, Any]) -> list[str]:
    """The best of the large kernels."""
    return [
        f"- best {kind} in {precision}: {kernels[precision][kind][0] / 1e9:.1f} GFLOP/s ({kernels[precision][kind][1]})"
        for precision in kernels
        for kind in ("convolution", "product")
    ]


def notes(rows: list[Row]) -> list[str]:
    """Why a cell is empty, and how far the other packages' losses are from the reference protocol's."""
    lines = []
    for row in rows:
        lines += [f"- {row['name']}, {side}: {why}" for side, why in row["refused"].items()]
        lines += [
            f"- {row['name']}, {side}: largest deviation of its losses {small(deviation(row, side))}"
            for side in (*PACKAGES, "plain")
            if row["runs"].get(side)
        ]
        for side in ("float32", "bfloat16"):
            for run in row["runs"].get(side, [])[:1]:
                if "engine" in run["said"]:
                    lines.append(f"- {row['name']}, ours {side}: engine {run['said']['engine']}")
    return lines


def number(value: float | None) -> str:
    """Three digits."""
    return "–" if value is None else f"{value:.3g}"


def small(value: float | None) -> str:
    """A deviation."""
    return "–" if value is None else f"{value:.1e}"
