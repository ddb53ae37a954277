"""Curvature against three other packages: the same network, data and core, interleaved; accuracy beside the processor's time.

python benchmarks/curvature.py                                    # all tables, small: 3 rounds, 360 examples
python benchmarks/curvature.py --rounds 7 --examples 0            # all 1,442 examples
python benchmarks/curvature.py --tables ends largest --networks mlp

The others are optional, and a table has those that are installed, in an environment of their own or in this one:

    pip install curvlinops-for-pytorch pyhessian==0.1
    pip install --no-deps hessian-eigenthings==1.0.0a5

Networks are trained by this program on scikit-learn's digits, once, into --folder, which also keeps the maps. Seconds are those
of the processor, medians over rounds in which the sides take turns, and hold all that a side does for its answer but for reading
data: ours also chooses how to compute products. Of ranks they are seconds on the clock, of a third of the rounds. Counts of
products do not depend on the machine. References for errors are cold float64 runs with residuals a hundredth as large, for maps
cold runs with residuals a tenth as large, and for the density the dense Hessian in float64 by torch.autograd.functional.
--examples does not count for maps and ranks, which the program itself computes, of all 1,442.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from curvature_density import density_table
from curvature_maps import points_table, ranks_table
from curvature_places import Place, place
from curvature_sides import BOTH, KEPT, LARGEST, Ends, Side, missing, opened, pieces_of, reference, timed
from tables import table

from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.curvature.starts import gaussian

WHERE = ((0.0, 0.0), (0.5, -0.5))
# One batch: 360 would leave one of 2 examples, which costs and, in packages that weight batches alike, counts as much.
BATCH = {"resnet14": 1442, "resnet20": 1442, "mlp": 1442, "mlp_small": 1442}


def places(options: argparse.Namespace) -> Iterator[Place]:
    """Each network at each place."""
    for network in options.networks:
        for where in WHERE:
            yield place(network, options.folder, where, options.examples, BATCH[network])


def interleaved(
    sides: dict[str, Side], at: Place, rounds: int, say: Callable[[str], object]
) -> dict[str, list[Ends]]:
    """What each side finds in every round, in turns; a side that raises is said and left out."""
    found: dict[str, list[Ends]] = {name: [] for name in sides}
    # The first call of a library in a process is a slow one, and does not count.
    for number in range(rounds + 1):
        for name, side in sides.items():
            if number and not found[name]:
                continue
            try:
                found[name].append(timed(side, at, seed=number))
            except Exception as error:
                say(f"- {at.network}, {name}: {type(error).__name__}: {str(error).splitlines()[0]}")
                found[name] = []
    return {name: each[1:] for name, each in found.items() if len(each) > 1}


def ends_table(options: argparse.Namespace, sides: dict[str, Side], say: Callable[[str], object]) -> str:
    """Products, seconds and largest errors of each side at each place."""
    rows = []
    for at in places(options):
        wanted = reference(at)
        assert wanted.smallest is not None
        found = interleaved(sides, at, options.rounds, say)
        own = statistics.median(each.seconds for each in found["ours"]) if "ours" in found else None
        for name, runs in found.items():
            seconds = statistics.median(each.seconds for each in runs)
            largest = max(abs(each.largest / wanted.largest - 1) for each in runs)
            low = [each.smallest for each in runs if each.smallest is not None]
            smallest = max((abs(each / wanted.smallest - 1) for each in low), default=None)
            counts = sorted(each.products for each in runs)
            rows.append(
                [
                    at.network,
                    f"({at.where[0]:g}, {at.where[1]:g})",
                    name,
                    f"{counts[0]}" if counts[0] == counts[-1] else f"{counts[0]}-{counts[-1]}",
                    f"{seconds:.3g}",
                    f"{seconds / own:.2f}" if own else "–",
                    f"{largest:.1e}",
                    "–" if smallest is None else f"{smallest:.1e}",
                ]
            )
    heads = ("network", "at", "side", "products", "CPU s", "of ours", "error of λmax", "error of λmin")
    return table(heads, rows)


def product_table(options: argparse.Namespace) -> str:
    """Seconds of a product over those of a gradient, by the plain network, of the same batches."""
    rows = []
    for network in options.networks:
        at = place(network, options.folder, WHERE[1], options.examples, BATCH[network])
        work: dict[str, Callable[[], object]] = {"a gradient": gradient_of(at)}
        with exact_arithmetic(), ExitStack() as lent:
            settings = {
                "graphs kept": {"memory": KEPT},
                "rebuilt": {},
                "plain, rebuilt": {"engine": "plain"},
                "Gauss-Newton, kept": {"memory": KEPT, "operator": "gauss_newton"},
                **({"compiled": {"engine": "compiled"}} if options.compiled else {}),
            }
            entered = {name: lent.enter_context(opened(at, **each)) for name, each in settings.items()}
            pieces = pieces_of(at)
            for name, products in entered.items():
                vector = gaussian(products.size, 1, "benchmark")[None]
                work[name] = partial(products.product, vector, pieces)
            seconds = turns(work, max(3, options.rounds) * 5)
            ways = [products.way.words() if products.way else "" for products in entered.values()]
        base = seconds.pop("a gradient")
        rows += [
            [network, name, f"{1e3 * each:.3g}", f"{each / base:.2f}", way]
            for (name, each), way in zip(seconds.items(), ways, strict=True)
        ]
    return table(("network", "product", "CPU ms", "of a gradient", "way"), rows)


def turns(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median seconds of each piece of work, in turns; two rounds before record graphs and compile."""
    spent: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 2):
        for name, each in work.items():
            start = time.process_time()
            each()
            if number > 1:
                spent[name].append(time.process_time() - start)
    return {name: statistics.median(each) for name, each in spent.items()}


def gradient_of(at: Place) -> Callable[[], object]:
    """The gradient of the mean loss, as anybody computes it."""
    model = at.fresh()
    parameters = list(model.parameters())

    def work() -> object:
        total = None
        for inputs, targets in at.pairs:
            loss = F.cross_entropy(model(inputs), targets, reduction="sum")
            found = torch.autograd.grad(loss, parameters)
            total = found if total is None else [a + b for a, b in zip(total, found, strict=True)]
        return total

    return work


TABLES = ("ends", "largest", "product", "points", "density", "ranks")


def main() -> None:
    """Measure and print tables in Markdown."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--examples", type=int, default=360, help="of the training data; 0 for all 1,442")
    parser.add_argument("--networks", nargs="+", default=["resnet14", "mlp"], choices=BATCH)
    parser.add_argument("--tables", nargs="+", default=TABLES, choices=TABLES)
    parser.add_argument(
        "--compiled", action="store_true", help="measure compiled products, too: minutes to compile"
    )
    parser.add_argument("--map-networks", nargs="+", default=["resnet20", "mlp"], choices=BATCH)
    parser.add_argument(
        "--corners", type=int, default=2, help="blocks of 4 x 4 points of a 21 x 21 map; 25 for most of it"
    )
    parser.add_argument("--folder", type=Path, help="keeps what is trained; a temporary one by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        options.folder = options.folder or Path(temporary)
        options.folder.mkdir(parents=True, exist_ok=True)

        def say(text: str) -> None:
            sys.stdout.write(f"{text}\n\n")
            sys.stdout.flush()

        say(head(options))
        for line in missing():
            say(f"- left out, {line}")
        made: dict[str, tuple[str, Callable[[], str]]] = {
            "ends": ("Both ends at a point:", lambda: ends_table(options, BOTH, say)),
            "largest": ("The largest eigenvalue alone:", lambda: ends_table(options, LARGEST, say)),
            "product": ("A product against a gradient:", lambda: product_table(options)),
            "points": ("Products a point, of maps of 21 x 21:", lambda: points_table(options)),
            "density": ("Density, against the dense spectrum:", lambda: density_table(options, say)),
            "ranks": ("Two ranks against one:", lambda: ranks_table(options)),
        }
        for name in options.tables:
            title, make = made[name]
            say(f"{title}\n\n{make()}")


def head(options: argparse.Namespace) -> str:
    """The machine, and what is measured with what."""
    model = next(
        (
            line.split(": ")[1]
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "an unknown processor",
    )
    names = ("torch", "scipy", "curvlinops-for-pytorch", "pyhessian", "hessian-eigenthings")
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    examples = options.examples or "all 1,442"
    return (
        f"{model}, one thread; {', '.join(versions)}; {examples} examples, medians of {options.rounds} rounds"
    )


if __name__ == "__main__":
    main()
