from __future__ import annotations

import itertools

import numpy as np
import pytest

from mpi_landscape.errors import LandscapeError
from plotting.picture.levels import (
    drawable,
    even_levels,
    format_levels,
    format_value,
    height,
    parse_levels,
    quantile_levels,
)

RNG = np.random.default_rng(3)
STEEP = np.concatenate([np.full(900, 2.3026) + RNG.normal(0, 1e-7, 900), np.linspace(0.01, 2.0, 100)])

QUANTILES = [
    # values, kind, at least, at most, reason
    (np.linspace(0, 1, 1001), "linear", 10, 10, "evenly spread values give as many levels as asked for"),
    (np.linspace(-3, 7, 501), "linear", 10, 10, "an eigenvalue may be negative"),
    (10 ** np.linspace(-4, 6, 801), "log", 9, 12, "ten orders of magnitude"),
    (STEEP, "linear", 5, 14, "a plateau of nearly equal values gets few lines, the basin still gets some"),
    (
        np.append(np.linspace(0, 1, 999), 50.0),
        "linear",
        10,
        25,
        "one far outlier leaves the others their lines",
    ),
    (np.full(10, 2.3), "linear", 0, 0, "a constant has no level"),
    (np.array([1.0]), "linear", 0, 0, "one point has no level"),
    (np.array([1.0, 2.0]), "linear", 1, 10, "two values have levels between them"),
    (1e300 * np.linspace(1, 2, 99), "linear", 10, 10, "near the largest float"),
    (1e-300 * np.linspace(1, 2, 99), "linear", 10, 10, "near the smallest float"),
]


@pytest.mark.parametrize(("values", "kind", "least", "most", "reason"), QUANTILES)
def test_levels_lie_strictly_inside_the_values_in_ascending_order(values, kind, least, most, reason):
    levels = quantile_levels(values, 10, kind)
    assert least <= len(levels) <= most, reason
    assert all(a < b for a, b in itertools.pairwise(levels)), reason
    assert all(values.min() < level < values.max() for level in levels), reason


@pytest.mark.parametrize(("values", "kind", "least", "most", "reason"), QUANTILES)
def test_levels_are_written_with_few_digits(values, kind, least, most, reason):
    for level in quantile_levels(values, 10, kind):
        assert len(f"{level:e}".split("e")[0].rstrip("0").replace(".", "").strip("-")) <= 3, reason


def test_levels_of_evenly_spread_values_have_equal_shares_between_them():
    values = np.linspace(0, 1, 1001) ** 2
    levels = quantile_levels(values, 10, "linear")
    shares = np.diff([(values < level).mean() for level in levels[:-3]])
    # Rounding moves a level by at most a quarter of the gap to its neighbor on either side.
    assert (shares > 0.05).all()
    assert (shares < 0.16).all()


EVEN = [
    (0.0, 1.0, 4, "linear", (0.2, 0.4, 0.6, 0.8), "the ends are no levels"),
    (
        0.5,
        2e6,
        7,
        "log",
        (1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6),
        "one per decade when there are many decades",
    ),
    (0.09, 11.0, 6, "log", (0.1, 0.3, 1.0, 3.0, 10.0), "1 and 3 when there are few"),
    (
        2.0,
        2.4,
        3,
        "log",
        (2.1, 2.2, 2.3),
        "within a decade a logarithmic scale has no round numbers of its own",
    ),
    (-1.0, 1.0, 3, "linear", (-0.5, 0.0, 0.5), "zero is written as zero"),
    (3.0, 3.0, 5, "linear", (), "a constant has none"),
    (1e-8, 1e8, 5, "log", (1e-6, 1e-3, 1.0, 1e3, 1e6), "every third decade"),
]


@pytest.mark.parametrize(("low", "high", "count", "kind", "expected", "reason"), EVEN)
def test_even_levels_are_round_numbers(low, high, count, kind, expected, reason):
    assert even_levels(low, high, count, kind) == expected, reason


@pytest.mark.parametrize(
    ("text", "expected", "reason"),
    [
        ("7", 7, "a number of levels"),
        ("2,0.5,1", (0.5, 1.0, 2.0), "levels are sorted"),
        ("1,1,2", (1.0, 2.0), "a level is drawn once"),
        ("0.5,", (0.5,), "a comma makes one level of a number"),
        ("-1,0,1e-3", (-1.0, 0.0, 0.001), "signs and exponents"),
    ],
)
def test_levels_are_read_from_the_command_line(text, expected, reason):
    assert parse_levels(text) == expected, reason


@pytest.mark.parametrize("text", ["", "x", "0", "-3", "101", "1.5", "1,nan", "inf,1", ",", "1;2"])
def test_levels_that_make_no_sense_are_refused_in_one_line(text):
    with pytest.raises(LandscapeError, match=r"--levels .* whole number from 1 to 100") as caught:
        parse_levels(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (0.1 + 0.2, "0.3"), (-2.5, "−2.5"), (1234.0, "1230"), (2e-5, "2×10⁻⁵"), (1e6, "10⁶"),
        (-1e-7, "−10⁻⁷"), (float("nan"), "NaN"), (float("inf"), "∞"), (float("-inf"), "−∞"), (9.999, "10"),
    ],
)  # fmt: skip
def test_numbers_are_written_for_a_reader(value, text):
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.931, "93.1 %"), (0.9, "90 %"), (1.0, "100 %"), (0.0, "0 %"), (0.0715, "7.15 %")]
)
def test_fractions_are_written_as_per_cent(value, text):
    assert format_value(value, percent=True) == text


def test_different_levels_have_different_texts_that_say_their_value():
    levels = [2.3025, 2.30251, 2.4, 3.0, 20.0]
    texts = format_levels(levels)
    assert [float(text) for text in texts] == levels


def test_one_digit_levels_in_per_cent_have_no_exponent():
    assert format_levels([0.3, 0.4, 0.9], percent=True) == ["30 %", "40 %", "90 %"]


def test_height_is_the_logarithm_on_a_logarithmic_scale_only():
    assert height([0.01, 1000.0], "log").tolist() == [-2.0, 3.0]
    assert height([0.01, 1000.0], "linear").tolist() == [0.01, 1000.0]


def test_values_at_the_edges_of_float64_are_drawn_as_infinite_or_as_zero():
    values = [[1.7e308, -1.7e308, 1e300], [5e-324, -1e-301, np.nan], [np.inf, -2.5, 0.0]]
    shown = [[np.inf, -np.inf, 1e300], [0.0, 0.0, np.nan], [np.inf, -2.5, 0.0]]
    np.testing.assert_array_equal(drawable(values), shown)
