"""Both ends of a Hessian's spectrum by each side: this program, PyHessian, hessian-eigenthings, curvlinops with ARPACK.

Every side gets the same network, the same batches, one thread, and counts its products by itself.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from curvature_places import Place
from torch import nn

from mpi_landscape.configuration.sections.sources import LossConfiguration
from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.curvature.lanczos import extremes
from mpi_landscape.evaluation.curvature.products import Products
from mpi_landscape.evaluation.curvature.space import space_of
from mpi_landscape.evaluation.curvature.starts import gaussian
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Batch
from mpi_landscape.problem.losses import build_loss

CPU = torch.device("cpu")
# Bytes of graphs; all of them, on these data.
KEPT = 2**32
PACKAGES = {
    "curvlinops": "curvlinops-for-pytorch",
    "pyhessian": "pyhessian==0.1",
    "hessian_eigenthings": "--no-deps hessian-eigenthings==1.0.0a5",
}


@dataclass(frozen=True, kw_only=True)
class Ends:
    """What a side found, None where it does not look for it, in how many products and seconds of the processor.

    A side that leaves something out of its seconds says them itself.
    """

    largest: float
    smallest: float | None
    products: int
    seconds: float = 0.0


Side = Callable[[Place, int], Ends]


def missing() -> list[str]:
    """How to install what is not there."""
    absent = [PACKAGES[name] for name in PACKAGES if importlib.util.find_spec(name) is None]
    return [f"pip install {each}" for each in absent]


def timed(side: Side, place: Place, seed: int) -> Ends:
    """What a side finds, with all that it does for it but for the copy of the network."""
    with exact_arithmetic():
        start = time.process_time()
        found = side(place, seed)
        seconds = found.seconds or time.process_time() - start
    return Ends(largest=found.largest, smallest=found.smallest, products=found.products, seconds=seconds)


def named_loss() -> Any:
    """Cross-entropy, as a configuration names it."""
    return build_loss(LossConfiguration(name="cross_entropy"), where="benchmark", folders=[])


def opened(place: Place, **settings: Any) -> Products:
    """This program's products, of all trainable parameters."""
    model = place.fresh()
    return Products(model, named_loss(), space_of(layout_of(model)), device=CPU, **settings)


def pieces_of(place: Place, dtype: torch.dtype = torch.float32) -> Any:
    """What gives the batches, the same each time."""
    batches = [Batch(data=nests.in_precision(each.data, dtype), valid=each.valid) for each in place.batches]
    return lambda: [batches]


def _ours(place: Place, seed: int, **settings: Any) -> Ends:
    dtype = settings.get("dtype", torch.float32)
    search = {name: settings.pop(name) for name in ("tolerance", "most_steps", "only") if name in settings}
    pieces, known = pieces_of(place, dtype), settings.pop("known", False)
    with opened(place, **{"memory": KEPT, **settings}) as products:
        if known:
            products.choose(pieces()[0][0])
        begun = time.process_time()
        start = gaussian(products.size, seed, "benchmark", dtype=dtype)
        found = extremes(lambda vector: products.product(vector[None], pieces)[0], start, **search)
        seconds = time.process_time() - begun if known else 0.0
    low = found.lambda_min if search.get("only", "both") == "both" else None
    return Ends(largest=found.lambda_max, smallest=low, products=found.num_products, seconds=seconds)


def both_ends(place: Place, seed: int) -> Ends:
    """This program, by default."""
    return _ours(place, seed)


def both_ends_rebuilt(place: Place, seed: int) -> Ends:
    """This program, where no graph can be kept."""
    return _ours(place, seed, memory=0)


def largest_alone(place: Place, seed: int) -> Ends:
    """This program, the largest eigenvalue alone."""
    return _ours(place, seed, only="max")


def largest_further(place: Place, seed: int) -> Ends:
    """This program at a further place of the same network: how to compute products was chosen at the first."""
    return _ours(place, seed, only="max", known=True)


def both_further(place: Place, seed: int) -> Ends:
    """Likewise, by default."""
    return _ours(place, seed, known=True)


def reference(place: Place) -> Ends:
    """Cold, in float64, by the plain network, with residuals a hundredth of the default's."""
    with exact_arithmetic():
        return _ours(place, 0, dtype=torch.float64, engine="plain", tolerance=1e-4, most_steps=300)


def _arpack(place: Place, seed: int, ends: tuple[tuple[str, float], ...]) -> Ends:
    import numpy as np
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import LinearOperator, eigsh

    model = place.fresh()
    parameters = [each for each in model.parameters() if each.requires_grad]
    theirs = HessianLinearOperator(
        model, nn.CrossEntropyLoss(), parameters, place.pairs, check_deterministic=False
    ).to_scipy(dtype=np.float32)
    made = 0

    def product(vector: Any) -> Any:
        nonlocal made
        made += 1
        return theirs.matvec(vector)

    counted = LinearOperator(theirs.shape, matvec=product, dtype=np.float32)
    start = np.random.default_rng(seed).standard_normal(theirs.shape[0]).astype(np.float32)
    values = {
        end: float(eigsh(counted, k=1, which=end, tol=tolerance, v0=start, return_eigenvectors=False)[0])
        for end, tolerance in ends
    }
    return Ends(largest=values["LA"], smallest=values.get("SA"), products=made)


def arpack_both(place: Place, seed: int) -> Ends:
    """Products of curvlinops, two runs of ARPACK, with the tolerances that its residuals need for these accuracies."""
    return _arpack(place, seed, (("LA", 1e-3), ("SA", 1e-2)))


def arpack_largest(place: Place, seed: int) -> Ends:
    """The first run alone."""
    return _arpack(place, seed, (("LA", 1e-3),))


def pyhessian_largest(place: Place, seed: int) -> Ends:
    """Power iteration; |λ| alone."""
    from pyhessian import hessian

    torch.manual_seed(seed)
    made = 0
    computing = hessian(place.fresh(), nn.CrossEntropyLoss(), dataloader=place.pairs, cuda=False)
    product = computing.dataloader_hv_product

    def counted(vector: Any) -> Any:
        nonlocal made
        made += 1
        return product(vector)

    computing.dataloader_hv_product = counted
    values, _ = computing.eigenvalues(top_n=1)
    return Ends(largest=float(values[0]), smallest=None, products=made)


def eigenthings_largest(place: Place, seed: int) -> Ends:
    """Lanczos, 20 steps: by default it takes two."""
    from hessian_eigenthings import HessianOperator, lanczos, supervised_loss

    operator = HessianOperator(place.fresh(), place.pairs, supervised_loss(nn.CrossEntropyLoss()))
    found = lanczos(operator, k=1, max_iter=20, which="LA", seed=seed)
    return Ends(largest=float(found.eigenvalues[0]), smallest=None, products=20)


BOTH: dict[str, Side] = {
    "ours": both_ends,
    "ours, at a further place": both_further,
    "ours, graphs rebuilt": both_ends_rebuilt,
}
LARGEST: dict[str, Side] = {
    "ours": largest_alone,
    "ours, at a further place": largest_further,
    # Residuals three times as large as the default's, whose errors are still far below 1e-4.
    "ours, tolerance 0.03": partial(_ours, only="max", tolerance=3e-2),
    "ours, tolerance 0.03, at a further place": partial(_ours, only="max", tolerance=3e-2, known=True),
}
if importlib.util.find_spec("curvlinops"):
    BOTH["curvlinops, ARPACK"] = arpack_both
    LARGEST["curvlinops, ARPACK"] = arpack_largest
if importlib.util.find_spec("pyhessian"):
    LARGEST["PyHessian"] = pyhessian_largest
if importlib.util.find_spec("hessian_eigenthings"):
    LARGEST["hessian-eigenthings"] = eigenthings_largest
