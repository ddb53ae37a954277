"""Products of checkpoints, read in blocks by several threads: against numpy in float64, to the same bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.principal import principal
from mpi_landscape.parallel.launcher import open_ranks
from mpi_landscape.plan import columns
from mpi_landscape.trajectories.passes import Rows, components, products, products_with

SIZE, NUMBER = 30_001, 7


class Given:
    """A checkpoint that lies in memory."""

    def __init__(self, numbers):
        self.numbers, self.path = numbers, "given"

    def read(self, start, into):
        into.copy_(self.numbers[start : start + len(into)])


@pytest.fixture
def center():
    return torch.randn(SIZE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def vectors(center, monkeypatch):
    # Several leaves, of several blocks each.
    monkeypatch.setattr(columns, "_MOST", 2**11)
    monkeypatch.setattr(columns, "_LEAST", 2**11)
    monkeypatch.setattr(columns, "_LEAVES", 5)
    generator = torch.Generator().manual_seed(1)
    steps = torch.randn(NUMBER, SIZE, generator=generator) * torch.logspace(0, -3, NUMBER)[:, None]
    return [Given(center + step) for step in steps]


def rows_of(vectors, center, threads):
    return Rows(vectors=vectors, center=center, ranks=open_ranks(), threads=threads)


def differences(vectors, center):
    return np.stack([(each.numbers.double() - center.double()).numpy() for each in vectors])


def test_products_of_all_pairs_are_those_of_numpy_but_for_rounding(vectors, center):
    found, wanted = products(rows_of(vectors, center, 1)), differences(vectors, center)
    lengths = np.linalg.norm(wanted, axis=1)
    assert (abs(found - wanted @ wanted.T) <= 1e-6 * lengths * lengths[:, None]).all()


def test_components_and_products_with_them_are_those_of_numpy(vectors, center):
    rows, wanted = rows_of(vectors, center, 2), differences(vectors, center)
    axes, with_them, squares = components(rows, principal(products(rows)))
    around_mean = wanted - wanted.mean(axis=0)
    of_numpy = np.linalg.svd(around_mean, full_matrices=False)[2][:2]
    for axis, other in zip(axes, of_numpy, strict=True):
        np.testing.assert_allclose(abs(axis.double().numpy() @ other), 1, rtol=1e-6)
    made = np.stack([axis.double().numpy() for axis in axes])
    # The differences are those of float32.
    np.testing.assert_allclose(squares, np.square(wanted).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(
        with_them.with_axes, made @ wanted.T, atol=1e-6 * np.linalg.norm(wanted[0]), rtol=1e-5
    )
    np.testing.assert_allclose(with_them.of_axes, made @ made.T, atol=1e-12)


def test_any_number_of_threads_gives_the_same_bits(vectors, center):
    found = []
    for threads in (1, 2, 5):
        rows = rows_of(vectors, center, threads)
        gram = products(rows)
        axes, with_them, squares = components(rows, principal(gram))
        others = products_with(rows, axes)
        found.append(
            [gram.tobytes(), squares.tobytes(), with_them.with_axes.tobytes(), others[1].tobytes()]
            + [axis.numpy().tobytes() for axis in axes]
        )
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("threads", [1, 3])
def test_a_file_that_cannot_be_read_any_more_ends_the_pass(vectors, center, threads, monkeypatch):
    def read(start, into):
        if start > SIZE // 2:
            raise LandscapeError("given: has become shorter while it was read")
        into.copy_(center[start : start + len(into)])

    monkeypatch.setattr(vectors[3], "read", read)
    with pytest.raises(LandscapeError, match="has become shorter"):
        products(rows_of(vectors, center, threads))
