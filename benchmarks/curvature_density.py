"""The density of a small network's Hessian against all of its eigenvalues."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from curvature_places import Place, place
from scipy.stats import wasserstein_distance
from tables import table
from torch.func import functional_call
from torch.utils.data import TensorDataset

from mpi_landscape import hessian
from mpi_landscape.storage.spectrum.value import Spectrum

# Outliers that are taken out, probes, steps of each: some 220 to 300 products in all.
SETTINGS = ((10, 4, 40), (30, 4, 40), (30, 5, 40))


def dense_eigenvalues(at: Place) -> np.ndarray:
    """(n,) float64, ascending, by torch alone."""
    model = at.fresh().double()
    own = dict(model.named_parameters())
    sizes = [each.numel() for each in own.values()]
    inputs = at.inputs.double()

    def mean(flat: torch.Tensor) -> torch.Tensor:
        parts = flat.split(sizes)
        state = {
            name: part.reshape(each.shape) for (name, each), part in zip(own.items(), parts, strict=True)
        }
        return F.cross_entropy(functional_call(model, state, (inputs,)), at.targets)

    flat = torch.cat([each.detach().flatten() for each in own.values()])
    whole = torch.autograd.functional.hessian(mean, flat)
    return torch.linalg.eigvalsh(whole).numpy()


def density_table(options: argparse.Namespace, say: Callable[[str], object]) -> str:
    """Distances and errors, largest over rounds, each with random vectors of its own."""
    rows = []
    for where in ((0.0, 0.0), (0.5, -0.5)):
        at = place("mlp_small", options.folder, where, options.examples, 1442)
        exact = dense_eigenvalues(at)
        size = np.abs(exact).mean()
        for outliers, probes, steps in SETTINGS:
            found = [one(at, seed, outliers, probes, steps) for seed in range(1, options.rounds + 1)]
            errors = [
                (
                    wasserstein_distance(exact, nodes, v_weights=weights) / size,
                    abs(each.trace / exact.sum() - 1),
                    abs(each.frobenius / np.sqrt(np.square(exact).sum()) - 1),
                )
                for each, _, _ in found
                for nodes, weights in [each.density()]
            ]
            products = [made for _, made, _ in found]
            rows.append(
                [
                    f"({where[0]:g}, {where[1]:g})",
                    f"{outliers} out, {probes} x {steps}",
                    f"{min(products)}-{max(products)}",
                    f"{np.median([seconds for _, _, seconds in found]):.3g}",
                    *(f"{np.median(each):.3f}" for each in zip(*errors, strict=True)),
                    *(f"{max(each):.3f}" for each in zip(*errors, strict=True)),
                ]
            )
        said = pyhessian_density(at)
        if said:
            say(f"- PyHessian's density: {said}")
    heads = ("at", "how", "products", "CPU s", "W1 / mean abs λ", "trace", "Frobenius")
    return table((*heads, "worst W1", "worst trace", "worst Frobenius"), rows)


def one(at: Place, seed: int, outliers: int, probes: int, steps: int) -> tuple[Spectrum, int, float]:
    """A spectrum, its products in all, and its seconds: by the program, from a script."""
    start = time.process_time()
    found = hessian(
        at.fresh(), "cross_entropy", TensorDataset(at.inputs, at.targets),
        largest=outliers, smallest=0, probes=probes, steps=steps, seed=seed, compute={"threads": 1},
    )  # fmt: skip
    assert isinstance(found, Spectrum)
    return found, int(found.num_products.sum()), time.process_time() - start


def pyhessian_density(at: Place) -> str:
    """What its density says, where it is installed; it needs a function that torch has no more."""
    try:
        from pyhessian import hessian
    except ImportError:
        return ""
    computing = hessian(at.fresh(), torch.nn.CrossEntropyLoss(), dataloader=at.pairs, cuda=False)
    try:
        computing.density(iter=20, n_v=1)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return ""
