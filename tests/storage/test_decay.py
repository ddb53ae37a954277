"""Weight decay as a polynomial: its coefficients, what is added to losses, and what is refused."""

import json

import h5py
import numpy as np
import pytest

from mpi_landscape import inspect
from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.surface import decay
from mpi_landscape.storage.surface.reader import read_surface
from plotting.__main__ import main as draw
from plotting.picture.field import field_of
from tests.storage.test_files_of_before import BEFORE

# What the fixture's vectors are: six weights and a bias.
CENTER, ALPHA, BETA = np.arange(7) / 8, np.arange(7) - 3.0, np.arange(7) * 2.0


def by_loop(surface, numbers):
    """‖θ‖² over some of the numbers at every point, one after the other."""
    found = np.empty(surface.values["train_loss"].shape)
    for place in np.ndindex(found.shape):
        moved = CENTER + surface.alpha[place[0]] * ALPHA
        if surface.beta is not None:
            moved = moved + surface.beta[place[1]] * BETA
        found[place] = sum(float(each) ** 2 for each in moved[numbers])
    return found


@pytest.mark.parametrize(("of", "numbers"), [("all", slice(None)), ("weights", slice(0, 6))])
@pytest.mark.parametrize("is_line", [False, True])
def test_what_is_kept_gives_the_norm_at_every_point(surface_file, of, numbers, is_line):
    from tests.storage.conftest import LINE

    path, _ = surface_file(**({"grid": LINE} if is_line else {}))
    surface = read_surface(path)
    found = decay.squared_norm(surface.find_products()[of], surface.alpha, surface.beta)
    np.testing.assert_allclose(found, by_loop(surface, numbers), rtol=1e-14)


def test_running_statistics_do_not_decay():
    vectors = [np.array([2, 3, 5, 7, 11], np.float32), np.ones(5, np.float32)]
    kinds = ("weight", "bias", "norm", "scalar", "buffer")
    tensors = [(kind, place, place + 1) for place, kind in enumerate(kinds)]
    found = decay.products(tensors, vectors)
    assert found["all"].tolist() == [4 + 9 + 25 + 49, 2 + 3 + 5 + 7, 4]
    assert found["weights"].tolist() == [4, 2, 1]


def test_large_tensors_are_added_in_float64():
    rng = np.random.default_rng(0)
    center, alpha = (rng.normal(1, 1, 3 * 2**20 + 7).astype(np.float32) for _ in range(2))
    found = decay.products([("weight", 0, center.size)], [center, alpha])["all"]
    expected = [
        np.sum(one.astype(np.longdouble) * two)
        for one, two in ((center, center), (center, alpha), (alpha, alpha))
    ]
    np.testing.assert_allclose(found, np.array(expected, float), rtol=1e-13)


@pytest.mark.parametrize("name", ["finished.h5", "line.h5", "unfinished.h5"])
def test_a_file_of_before_is_asked_for_its_vectors(name):
    surface = read_surface(BEFORE / name)
    added = surface.with_weight_decay(0.5)
    with h5py.File(BEFORE / name) as file:
        assert not decay.are_in(file.attrs)
        vectors = {axis: file[f"directions/{axis}"][...].astype(float) for axis in ("center", "alpha")}
        other = 0.0 if surface.is_line else file["directions/beta"][...].astype(float)
    for place in np.argwhere(surface.done["train"])[::5]:
        moved = vectors["center"] + surface.alpha[place[0]] * vectors["alpha"]
        if not surface.is_line:
            moved = moved + surface.beta[place[1]] * other
        place = tuple(place)
        assert added.train_loss[place] - surface.train_loss[place] == pytest.approx(
            0.25 * moved @ moved, rel=1e-12
        )
        assert added.test_loss[place] - surface.test_loss[place] == pytest.approx(
            0.25 * moved @ moved, rel=1e-12
        )
    np.testing.assert_array_equal(added.train_accuracy, surface.train_accuracy)
    np.testing.assert_array_equal(np.isnan(added.train_loss), np.isnan(surface.train_loss))


def test_its_text_picture_and_summary_say_so(tmp_path, capsys):
    surface = read_surface(BEFORE / "finished.h5").with_weight_decay(5e-4, of="weights")
    words = "with weight decay 0.0005 of weights (no biases, no normalizations)"
    assert words in repr(surface)
    assert words in field_of(surface, "train_loss").facts
    assert words not in field_of(surface, "train_accuracy").facts
    with pytest.raises(SystemExit) as ended:
        inspect.main([str(BEFORE / "finished.h5"), "--weight-decay", "5e-4:weights", "--json"])
    assert not ended.value.code
    told = json.loads(capsys.readouterr().out)
    assert told["weight_decay"]["words"] == words
    assert told["quantities"]["train_loss"]["min"]["value"] == surface.minimum.value
    with pytest.raises(SystemExit):
        inspect.main([str(BEFORE / "finished.h5"), "--weight-decay", "5e-4:weights"])
    assert f"losses       {words}: (λ/2)·‖θ‖² is added" in capsys.readouterr().out
    assert (
        draw([str(BEFORE / "finished.h5"), "--weight-decay", "5e-4", "--output", str(tmp_path / "a.svg")])
        == 0
    )
    assert draw([str(BEFORE / "finished.h5"), "--output", str(tmp_path / "b.svg")]) == 0
    assert (tmp_path / "a.svg").read_bytes() != (tmp_path / "b.svg").read_bytes()


def test_norms_of_gradients_of_the_loss_alone_are_left_out(surface_file):
    from dataclasses import replace

    path, _ = surface_file()
    surface = read_surface(path)
    surface = replace(surface, values={**surface.values, "train_gradient_norm": surface.train_loss})
    assert "train_gradient_norm" not in surface.with_weight_decay(1e-3).values


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("x", "--weight-decay 'x': expected a number such as 5e-4"),
        ("-1", "weight decay is -1; expected a finite number, 0 or above"),
        ("nan", "expected a finite number"),
        ("1:biases", "weight decay of 'biases'; valid are all, weights"),
    ],
)
def test_what_is_no_weight_decay_is_refused(given, words, capsys):
    assert draw([str(BEFORE / "finished.h5"), f"--weight-decay={given}"]) == 2
    assert words in capsys.readouterr().err


def test_it_is_added_once_and_not_to_a_history(capsys):
    once = read_surface(BEFORE / "finished.h5").with_weight_decay(0.1)
    with pytest.raises(LandscapeError, match=r"are with weight decay 0\.1 already"):
        once.with_weight_decay(0.1)
    assert draw([str(BEFORE / "training/history.h5"), "--weight-decay", "1"]) == 2
    assert "--weight-decay is for surface files" in capsys.readouterr().err


@pytest.mark.parametrize("planted", [np.array([1.0]), "three", np.array([1, 2, 3])])
def test_damaged_products_are_refused_when_they_are_needed(surface_file, planted):
    path, _ = surface_file()
    with h5py.File(path, "r+") as file:
        file.attrs["squared_norm_all"] = planted
    surface = read_surface(path)
    with pytest.raises(LandscapeError, match="is damaged: its attribute squared_norm_all is"):
        surface.with_weight_decay(1.0)
