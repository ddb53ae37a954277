"""Paths in potentials with known saddles, and curves against the best ones that a brute search finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import fsolve, minimize

from mpi_landscape.configuration.sections.connect import Cycle
from mpi_landscape.connections.curve import line
from mpi_landscape.connections.searching.band import Band, Insertion
from mpi_landscape.connections.searching.string import String
from mpi_landscape.connections.searching.trained import TrainedCurve
from tests.connections import potentials
from tests.connections.conftest import barrier_of, run
from tests.connections.potentials import ENDS, MUELLER_MINIMA, MUELLER_SADDLES, POTENTIALS, energies

RATES = {"double_well": 0.05, "mueller_brown": 2e-4, "product": 0.1}


def gradient(potential, point):
    w = torch.tensor(point, dtype=torch.float64, requires_grad=True)
    POTENTIALS[potential](w).backward()
    return w.grad.numpy()


def test_the_saddles_of_muellers_and_browns_surface_are_where_it_is_said():
    for point in (*MUELLER_SADDLES, *MUELLER_MINIMA):
        found = fsolve(lambda at: gradient("mueller_brown", at), point, xtol=1e-13)
        np.testing.assert_allclose(found, point, atol=1e-9)
    # As published: -40.66 and -72.25.
    np.testing.assert_allclose(
        energies("mueller_brown", np.array(MUELLER_SADDLES)), [-40.6648, -72.2489], atol=1e-4
    )


def known_barrier(potential):
    """Of the best path there is."""
    if potential == "product":
        return 0.0
    saddle = {"double_well": (0.0, 1.0), "mueller_brown": MUELLER_SADDLES[0]}[potential]
    return energies(potential, np.array([saddle]))[0] - energies(potential, np.array(ENDS[potential])).max()


@pytest.mark.parametrize("potential", POTENTIALS)
def test_the_barrier_of_the_straight_line_is_that_of_a_dense_scan(potential, in_potential):
    space = in_potential(potential).space
    straight = line(space.vector(space.start), space.vector(space.end))
    a, b = map(np.array, ENDS[potential])
    dense = energies(potential, a + np.linspace(0, 1, 20001)[:, None] * (b - a))
    wanted = dense.max() - max(dense[0], dense[-1])
    known = {"double_well": 3.0, "product": 0.75**4}.get(potential, wanted)
    np.testing.assert_allclose([barrier_of(potential, straight), known], wanted, rtol=1e-5)


def close(found, potential):
    """To 1 %: of the barrier, or of the straight line's where there is none."""
    wanted = known_barrier(potential)
    return abs(found - wanted) <= 0.01 * (wanted or 0.75**4)


@pytest.mark.parametrize("potential", POTENTIALS)
def test_a_string_finds_the_saddle(potential, in_potential):
    passes = in_potential(potential)
    start, end = (passes.space.vector(each) for each in (passes.space.start, passes.space.end))
    search = String(
        start, end, pivots=14, steps=120, learning_rate=RATES[potential], momentum=0.0, weight_decay=0.0
    )
    assert close(barrier_of(potential, run(search, passes)), potential)
    assert passes.examples == {True: 14 * 120, False: 0}


# Springs have to fit a potential's steepness, which is seen once.
BANDS = [*((potential, None) for potential in POTENTIALS), ("double_well", 2.0)]


@pytest.mark.parametrize(("potential", "spring"), BANDS)
def test_an_elastic_band_finds_the_saddle_and_grows_where_it_is_coarse(potential, spring, in_potential):
    passes, rate = in_potential(potential), RATES[potential]
    start, end = (passes.space.vector(each) for each in (passes.space.start, passes.space.end))
    cycles = [*[Cycle(steps=60, learning_rate=rate)] * 3, Cycle(steps=60, learning_rate=rate / 4)]
    search = Band(
        start,
        end,
        pivots=4,
        cycles=cycles,
        insertion=Insertion(threshold=0.01, between=9, most_pivots=9),
        momentum=0.5,
        weight_decay=0.0,
        spring_constant=spring,
    )
    curve = run(search, passes)
    assert close(barrier_of(potential, curve), potential)
    assert 4 + 2 <= len(curve.controls) - 2 <= 9
    assert list(curve.places) == sorted(curve.places)


def best_barrier(potential, kind, bends):
    """Of the curve with the least mean loss over t, by a simplex search over its bends and a fine grid of t."""
    a, b = map(np.array, ENDS[potential])
    t = np.linspace(0, 1, 2001)

    def points(flat):
        controls = np.vstack([a, flat.reshape(-1, 2), b])
        if kind == "bezier":
            weights = np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2])
            return weights.T @ controls
        places = np.linspace(0, 1, len(controls))
        return np.stack([np.interp(t, places, controls[:, axis]) for axis in (0, 1)], axis=1)

    first = np.array([a + (b - a) * number / (bends + 1) for number in range(1, bends + 1)]).ravel()
    found = minimize(
        lambda flat: np.trapezoid(energies(potential, points(flat)), t),
        first,
        method="Nelder-Mead",
        options={"xatol": 1e-6, "fatol": 1e-10, "maxiter": 4000, "maxfev": 4000},
    )
    losses = energies(potential, points(found.x))
    return losses.max() - max(losses[0], losses[-1])


CURVES = [
    ("double_well", "bezier", 1, 0.05, 300, "a parabola can follow this valley"),
    pytest.param(
        *("double_well", "chain", 1, 0.1, 400, "two straight pieces cannot"), marks=pytest.mark.exhaustive
    ),
    ("mueller_brown", "bezier", 1, 3e-4, 300, "far from the saddle"),
    pytest.param(
        *("mueller_brown", "chain", 2, 1e-4, 900, "two bends come nearer"), marks=pytest.mark.exhaustive
    ),
    ("product", "bezier", 1, 0.3, 300, "round a corner"),
]


@pytest.mark.parametrize(("potential", "kind", "bends", "rate", "steps", "why"), CURVES)
def test_a_trained_curve_is_the_best_of_its_kind(potential, kind, bends, rate, steps, why, in_potential):
    assert why
    passes = in_potential(potential, pieces=8)
    start, end = (passes.space.vector(each) for each in (passes.space.start, passes.space.end))
    search = TrainedCurve(
        start,
        end,
        kind=kind,
        bends=bends,
        epochs=steps,
        steps_per_epoch=1,
        pieces=[8],
        learning_rate=rate,
        momentum=0.9 if potential == "mueller_brown" else 0.5,
        weight_decay=0.0,
        seed=0,
    )
    found, wanted = barrier_of(potential, run(search, passes)), best_barrier(potential, kind, bends)
    assert abs(found - wanted) <= 0.01 * wanted


def test_a_polygon_meets_the_corner_of_two_valleys(in_potential):
    passes = in_potential("product", pieces=4)
    start, end = (passes.space.vector(each) for each in (passes.space.start, passes.space.end))
    search = TrainedCurve(
        start, end, kind="chain", epochs=300, steps_per_epoch=1, pieces=[4], learning_rate=0.2, momentum=0.5,
        weight_decay=0.0, seed=1,
    )  # fmt: skip
    curve = run(search, passes)
    np.testing.assert_allclose(curve.controls[1], [0.0, 0.0], atol=0.02)
    assert barrier_of("product", curve) < 1e-4 * potentials.energies("product", np.array([[0.75, 0.75]]))[0]
