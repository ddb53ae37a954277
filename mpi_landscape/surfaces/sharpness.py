"""The ε-sharpness of the minimum at the center of a surface, by the network of its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor

from mpi_landscape.configuration.sections.whole import Configuration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.gradient_norm import check_differentiable
from mpi_landscape.evaluation.gradients import Gradients
from mpi_landscape.evaluation.precision import precision_of
from mpi_landscape.evaluation.replica import network_on
from mpi_landscape.evaluation.sharpness import Sharpness, sharpness_of
from mpi_landscape.evaluation.vectors import Rows, Vectors
from mpi_landscape.geometry.layout import Layout
from mpi_landscape.loading.batches import Examples
from mpi_landscape.parallel.ranks import Ranks
from mpi_landscape.placement.anywhere import training_split
from mpi_landscape.placement.center import Center, share_center
from mpi_landscape.placement.placing import Placed, placed
from mpi_landscape.plan.decisions import Decisions
from mpi_landscape.storage.identity import fingerprint, of_attributes
from mpi_landscape.storage.surface.reader import read_names, read_surface
from mpi_landscape.surfaces.engine import first_batches
from mpi_landscape.surfaces.request import request_of


def measure_sharpness(
    path: Path,
    configuration: Configuration,
    where: str,
    ranks: Ranks,
    *,
    epsilon: float,
    steps: int,
    seed: int,
) -> tuple[Sharpness, str]:
    """Climb around the center of a file, over the whole training split and all trainable parameters.

    Args:
        path: The file.
        configuration: What it is of.
        where: Its file, for messages.
        ranks: One.
        epsilon: As for `sharpness_of`.
        steps: Likewise.
        seed: Likewise.

    Returns:
        What was found, and the name of the split.

    Raises:
        LandscapeError: The center is another one, or the loss has no gradient, or is not finite there.
    """
    surface = read_surface(path)
    if precision_of(configuration.compute.precision).approximate or configuration.compute.precision == "kept":
        raise LandscapeError(
            f"{where}: compute.precision is {configuration.compute.precision}, in which small displacements are lost; valid "
            f"for --sharpness are float32 and float64"
        )
    with exact_arithmetic():
        request = request_of(configuration, ranks, where)
        problem = request.problem
        center = share_center(problem.model, ranks, normalization_buffers=False)
        _check_center(path, where, center, share_center(problem.model, ranks, normalization_buffers=True))
        with placed(problem, ranks, request.compute, Decisions.of(surface.attributes, ())) as seat:
            split = training_split(seat)
            return _climbed(seat, center, split, epsilon=epsilon, steps=steps, seed=seed), split


def _check_center(path: Path, where: str, center: Center, with_buffers: Center) -> None:
    """Refuse a network that is not that of the file."""
    names = read_names(path)
    for each in (center, with_buffers):
        if names == [entry.name for entry in each.layout.entries]:
            known = of_attributes(read_surface(path).attributes).get("center")
            if known != fingerprint(each.vector.numpy()):
                raise LandscapeError(
                    f"{path}: has another center than {where}: its checkpoint has changed, or is another one"
                )
            return
    raise LandscapeError(f"{path}: is of a network with other tensors than that of {where}")


def _climbed(seat: Placed, center: Center, split: str, *, epsilon: float, steps: int, seed: int) -> Sharpness:
    examples, problem = seat.splits[split], seat.problem
    check_differentiable(problem.loss, problem.model, first_batches(examples, 1)[0])
    network = network_on(problem.model, seat.device, seat.precision.data)
    own = {name for name, _ in network.named_parameters()}
    names = [entry.name for entry in center.layout.entries if entry.name in own and entry.trainable]
    rows = Rows(
        layout=center.layout, center=center.vector.to(seat.device, seat.precision.data), directions=()
    )
    with closing(Gradients(network, problem.loss, rows, names, seat.threads)) as gradients:
        climb = _Climb(gradients, rows.center, center.layout, names, examples)
        found = sharpness_of(climb, climb.middle, epsilon=epsilon, steps=steps, seed=seed)
    if not torch.tensor(found.loss).isfinite():
        raise LandscapeError(
            f"--sharpness: the {split} loss at the center is {found.loss}, so nothing rises above it"
        )
    return found


class _Climb:
    """The mean loss over a split and its gradient, at a displacement of the parameters that move."""

    def __init__(
        self,
        gradients: Gradients,
        center: Tensor,
        layout: Layout,
        names: Sequence[str],
        examples: Examples,
    ) -> None:
        self._gradients, self._center, self._examples = gradients, center, examples
        self._places = [(entry.offset, entry.stop) for entry in layout.entries if entry.name in names]
        self.middle = torch.cat([center[start:stop] for start, stop in self._places]).double()

    def __call__(self, displacement: Tensor) -> tuple[float, Tensor]:
        """The mean and its gradient: (m,) float64."""
        target = self._center.clone()
        moved, first = self.middle + displacement, 0
        for start, stop in self._places:
            target[start:stop].copy_(moved[first : first + stop - start])
            first += stop - start

        def go(vectors: Vectors, _: int) -> None:
            vectors.point.copy_(target)

        sums = torch.zeros(1, self._gradients.size, dtype=torch.float64, device=target.device)
        count = total = 0.0
        with closing(self._examples.pieces(0, self._examples.num_batches)) as pieces:
            for piece in pieces:
                weight, (loss,) = self._gradients.add(sums, piece, go)
                count, total = count + weight, total + loss
        return total / count, sums[0] / count
