"""Maps and points by the program itself: products a point, errors against cold references, two ranks against one."""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from pathlib import Path

import h5py
import numpy as np
from curvature_places import run, trained
from tables import table

# First indices of blocks of 4 x 4 points in a map of 21 x 21 with a spacing of 0.1: the middle, then all over it.
BLOCKS = [
    (8, 8),
    (13, 3),
    *(each for each in itertools.product((0, 4, 8, 12, 16), repeat=2) if each != (8, 8)),
]


def block(
    network: str, folder: Path, first: tuple[int, int], name: str, *words: str
) -> dict[str, np.ndarray]:
    """What the program finds in a block of a map."""
    path = folder / f"map_{network}_{first[0]}_{first[1]}_{name}.h5"
    if not path.exists():
        run(
            [
                *("-m", "mpi_landscape.hessian", str(trained(network, folder))),
                *("--set", "hessian.at=grid", "--output", str(path)),
                *itertools.chain.from_iterable(("--set", axis) for axis in _axes(first)),
                *itertools.chain.from_iterable(("--set", word) for word in words),
            ]
        )
    with h5py.File(path) as file:
        return {
            key: np.asarray(file[f"train_{key}"]) for key in ("lambda_max", "lambda_min", "hessian_products")
        }


def _axes(first: tuple[int, int]) -> list[str]:
    ends = [(-1 + 0.1 * index, -1 + 0.1 * (index + 3)) for index in first]
    return [
        f"grid.{name}=[{low:.1f}, {high:.1f}, 4]"
        for name, (low, high) in zip(("alpha", "beta"), ends, strict=True)
    ]


def points_table(options: argparse.Namespace) -> str:
    """Mean products and errors over a sample of the map, against cold runs with residuals a tenth as large."""
    rows = []
    for network in options.map_networks:
        chosen = BLOCKS[: options.corners]
        tight = ("hessian.tolerance=1e-3", "hessian.most_steps=200")
        exact = [block(network, options.folder, each, "reference", *tight) for each in chosen]
        for starts in ("cold", "tiles"):
            found = [
                block(network, options.folder, each, starts, f"hessian.starts={starts}") for each in chosen
            ]
            counts = np.concatenate([each["hessian_products"].ravel() for each in found])
            errors = {
                end: np.concatenate(
                    [
                        np.abs(one[end] / right[end] - 1).ravel()
                        for one, right in zip(found, exact, strict=True)
                    ]
                )
                for end in ("lambda_max", "lambda_min")
            }
            low = errors["lambda_min"]
            rows.append(
                [
                    network,
                    starts,
                    f"{len(counts)}",
                    f"{counts.mean():.1f}",
                    f"{counts.min():.0f}-{counts.max():.0f}",
                    f"{errors['lambda_max'].max():.1e}",
                    f"{100 * np.mean(low <= 0.01):.0f} %",
                    f"{100 * low.max():.2g} %",
                ]
            )
    heads = ("network", "starts", "points", "products a point", "range", "worst error of λmax")
    return table((*heads, "λmin within 1 %", "worst error of λmin"), rows)


def ranks_table(options: argparse.Namespace) -> str:
    """Seconds on the clock on one rank and on two, without those of starting up (a dry run of the same).

    The machine must have two cores to spare.
    """
    network = options.map_networks[0]
    rows = [
        _of_ranks(network, options, kind, words)
        for kind, words in (
            ("map of 4 x 4 points", ["hessian.at=grid", "grid.alpha=[-1, 1, 4]", "grid.beta=[-1, 1, 4]"]),
            ("spectrum at a point", ["hessian.at=center"]),
        )
    ]
    return table(("network", "what", "one rank, s", "two ranks, s", "ratio"), rows)


def _of_ranks(network: str, options: argparse.Namespace, kind: str, words: list[str]) -> list[str]:
    base = ["-m", "mpi_landscape.hessian", str(trained(network, options.folder))]
    base += list(itertools.chain.from_iterable(("--set", word) for word in words))
    spent: dict[int, list[float]] = {1: [], 2: []}
    for _, ranks in itertools.product(range(max(1, options.rounds // 3)), (1, 2)):
        output = options.folder / f"ranks_{network}.h5"
        output.unlink(missing_ok=True)
        start = _seconds([*base, "--output", str(output), "--dry-run"], ranks)
        spent[ranks].append(_seconds([*base, "--output", str(output)], ranks) - start)
    one, two = (statistics.median(spent[ranks]) for ranks in (1, 2))
    return [network, kind, f"{one:.3g}", f"{two:.3g}", f"{one / two:.2f}"]


def _seconds(words: list[str], ranks: int) -> float:
    start = time.perf_counter()
    run(words, ranks)
    return time.perf_counter() - start
