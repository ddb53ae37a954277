"""Axes whose range is found: `auto`, and what options and bases change of it."""

import pytest

from mpi_landscape.configuration.reading import load, load_text, to_yaml
from mpi_landscape.configuration.sections.plane import AutoAxis
from mpi_landscape.errors import LandscapeError
from mpi_landscape.plan.grid import Axis

BASE = "model: mlp\ndata: digits\n"


def grid(text, *overrides):
    return load_text(BASE + text, where="here.yaml", overrides=overrides).grid


def test_the_word_and_the_mapping_say_it():
    found = grid("grid: {alpha: auto, beta: {auto: true, num: 31}}")
    assert (found.alpha, found.beta) == (AutoAxis(), AutoAxis(num=31))


def test_it_is_written_and_read_again():
    configuration = load_text(f"{BASE}grid: {{alpha: auto}}", where="here.yaml")
    assert load_text(to_yaml(configuration), where="there.yaml") == configuration


@pytest.mark.parametrize(
    ("text", "override", "alpha"),
    [
        ("auto", "grid.alpha.num=11", AutoAxis(num=11)),
        ("auto", "grid.alpha=[-1, 2, 7]", Axis(-1, 2, 7)),
        ("auto", "grid.alpha.min=-3", Axis(-3, 1, 51)),
        ("[-1, 2, 7]", "grid.alpha=auto", AutoAxis()),
        ("[-1, 2, 7]", "grid.alpha.auto=true", AutoAxis(num=7)),
    ],
)
def test_options_change_it(text, override, alpha):
    assert grid(f"grid: {{alpha: {text}}}", override).alpha == alpha


def test_a_base_is_changed_by_it_and_changes_it(tmp_path):
    (tmp_path / "base.yaml").write_text(f"{BASE}grid: {{alpha: [-1, 1, 21], beta: auto}}\n")
    (tmp_path / "mine.yaml").write_text("base: base.yaml\ngrid: {alpha: auto, beta: {max: 2}}\n")
    found = load(tmp_path / "mine.yaml").grid
    assert (found.alpha, found.beta) == (AutoAxis(num=21), Axis(-1, 2, 51))


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("{auto: false}", "here.yaml: grid.alpha.auto is False; expected true, or min, max and num"),
        ("{auto: true, num: 2}", "grid.alpha.num is 2; expected a whole number from 3"),
        ("{auto: true, nmu: 5}", "grid.alpha: 'nmu' does not belong to an axis whose range is found"),
        ("automatic", "grid.alpha is 'automatic'; expected a mapping with the fields min, max, num"),
    ],
)
def test_what_it_cannot_be_is_refused(text, refusal):
    with pytest.raises(LandscapeError) as error:
        grid(f"grid: {{alpha: {text}}}")
    assert refusal.lower() in str(error.value).lower()
