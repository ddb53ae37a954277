"""Losses near the largest number: a width is interpolated all the same, and what is beyond all numbers is said to be."""

from __future__ import annotations

import warnings

import numpy as np

from mpi_landscape.measures.sides import sides_of
from mpi_landscape.measures.summary import measure, measured_lines
from mpi_landscape.storage.surface.value import Surface


def test_a_width_between_two_large_numbers_is_interpolated():
    axis, values = np.array([-1.0, 0.0, 1.0]), np.array([1.7e308, -1.7e308, 1.7e308])
    left, right = sides_of(axis, values, np.ones(3, dtype=bool), place=1, rise=1.7e308)
    np.testing.assert_allclose([left.width, right.width], 0.5)


def test_a_rise_that_is_lost_in_rounding_is_said():
    values = np.array([1e300, 1e300, 2e300])
    left, right = sides_of(np.array([-1.0, 0.0, 1.0]), values, np.ones(3, dtype=bool), place=1, rise=0.1)
    assert np.isnan([left.width, right.width]).all()
    assert left.why == right.why == "the rise is less than the rounding of the loss"


def test_what_is_beyond_all_numbers_is_told_without_a_warning():
    values = np.array([[1.7e308, -1.7e308], [0.0, 0.0], [-1.7e308, 1.7e308]])
    every = {"train": np.ones((3, 2), dtype=bool)}
    lines = Surface(
        path="a.h5", alpha=np.array([-1.0, 0, 1]), beta=None, seeds=np.array([1, 2]),
        values={"train_loss": values}, done=every,
    )  # fmt: skip
    plane = Surface(
        path="a.h5", alpha=np.array([-1.0, 0, 1]), beta=np.array([0.0, 1]),
        values={"train_loss": values}, done=every,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for surface in (lines, plane):
            assert any("train_loss" in line for line in measured_lines(measure(surface, 0.1)))
        assert any("basin" in line for line in measured_lines(measure(plane, 0.1, persistence=True)))
