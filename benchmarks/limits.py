"""How fast the hardware is: the best plain forward pass, the best convolution, the best matrix product.

All ranks measure at once, each on its own core, as they compute at once in a surface: memory and the clock's turbo are
shared. Started by engine.py under mpiexec.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mpi4py import MPI
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from workloads import load_network, resident_batches

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# (batch, channels, height and width): of small and of large networks.
CONVOLUTIONS = ((64, 16, 32), (64, 64, 32), (32, 128, 16), (32, 256, 16), (16, 512, 14))
PRODUCTS = (512, 1024, 2048)
# Where an example is small, a batch must be larger to fill a product.
SMALL_BATCHES, LARGE_BATCHES = (32, 64, 128), (64, 512, 4096)


def main() -> None:
    """Measure and write the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--network")
    parser.add_argument(
        "--flops", type=float, help="of one example; the network's rate instead of the kernels'"
    )
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args()
    comm = MPI.COMM_WORLD
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with torch.no_grad():
        for name, dtype in DTYPES.items():
            measured = forward(options, dtype) if options.network else kernels(dtype)
            # In the same order on every rank, so that all are busy with the same thing.
            rates = {what: sum(comm.allgather(measure())) / comm.size for what, measure in measured}
            found[name] = best_of_kinds(rates)
    if comm.rank == 0:
        options.result.write_text(json.dumps(found))


def best_of_kinds(rates: dict[str, float]) -> dict[str, Any]:
    """The best of each kind (the word before the colon): FLOP/s of a core, and what it was."""
    found: dict[str, Any] = {}
    for what, rate in rates.items():
        kind, _, form = what.partition(": ")
        if rate > found.get(kind, (0.0, ""))[0]:
            found[kind] = (rate, form)
    return found


def kernels(dtype: torch.dtype) -> list[tuple[str, Callable[[], float]]]:
    """Convolutions of 3 x 3 and square products, with their names; each gives FLOP/s."""
    measured = []
    for (batch, channels, size), last in itertools.product(CONVOLUTIONS, (False, True)):
        layout = torch.channels_last if last else torch.contiguous_format
        images = torch.randn(batch, channels, size, size, dtype=dtype).to(memory_format=layout)
        layer = nn.Conv2d(channels, channels, 3, padding=1, bias=False).to(dtype=dtype, memory_format=layout)
        flops = 2 * 9 * channels**2 * size**2 * batch
        name = f"convolution: {batch} x {channels} x {size} x {size}, {'NHWC' if last else 'NCHW'}"
        measured.append((name, rate_of(layer, [images], flops)))
    for size in PRODUCTS:
        left, right = (torch.randn(size, size, dtype=dtype) for _ in range(2))
        measured.append((f"product: {size}", rate_of(left.matmul, [right], 2 * size**3)))
    return measured


def forward(options: argparse.Namespace, dtype: torch.dtype) -> list[tuple[str, Callable[[], float]]]:
    """The network itself in all its forms, in both layouts and several batch sizes."""
    model = load_network(options.folder, options.network)
    is_convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    forms = forms_of(model, options.network) if is_convolutional else {"plain": model}
    measured = []
    for form, network in forms.items():
        for last in (False, True) if is_convolutional else (False,):
            layout = torch.channels_last if last else torch.contiguous_format
            ready = copy.deepcopy(network).to(dtype=dtype, memory_format=layout)
            for batch in SMALL_BATCHES if is_convolutional else LARGE_BATCHES:
                # Several, so that the data come from memory as in a pass over all of it.
                pieces = [
                    inputs if isinstance(inputs, dict) else inputs.to(dtype=dtype, memory_format=layout)
                    for inputs, targets in resident_batches(options.folder, batch, most=4 * batch)
                    if len(targets) == batch
                ]
                if pieces:
                    name = f"forward: {form}, {'NHWC' if last else 'NCHW'}, batch {batch}"
                    measured.append((name, rate_of(ready, pieces, options.flops * batch)))
    return measured


def forms_of(model: nn.Module, name: str) -> dict[str, nn.Module]:
    """The network as it is, with normalisations folded by torch.fx, and with our fused convolutions after that."""
    forms = {"plain": model}
    try:
        forms["folded"] = fuse(model)
        from mpi_landscape.evaluation.engine import fusing

        forms["fused"] = fusing.fuse(forms["folded"])
    except (
        Exception
    ) as error:  # not every network can be traced, not every version can fuse: said in many ways
        print(f"limits.py: {name} is measured as {', '.join(forms)} only: {error}")
    return forms


def rate_of(work: Callable[[Any], Tensor], inputs: list[Any], flops: float) -> Callable[[], float]:
    """A measurement to be done later: the best FLOP/s of several rounds; 0 for what cannot run."""

    def measure(rounds: int = 3, least: float = 0.15) -> float:
        try:
            work(inputs[0])
        except RuntimeError:
            # A fused convolution that oneDNN does not have in this layout and type: no candidate, on any rank.
            return 0.0
        best = 0.0
        for _ in range(rounds):
            start, calls = time.perf_counter(), 0
            while (seconds := time.perf_counter() - start) < least or calls < len(inputs):
                work(inputs[calls % len(inputs)])
                calls += 1
            best = max(best, calls * flops / seconds)
            if seconds > 10 * least:
                break  # so long that another round would find the same
        return best

    return measure


if __name__ == "__main__":
    main()
