from pathlib import Path

import h5py
import numpy as np
import pytest

from mpi_landscape import LandscapeError
from mpi_landscape.storage.identity import as_attributes, check_same, fingerprint, of_attributes

VALUES = np.arange(6, dtype=np.float32)


def test_a_fingerprint_is_the_same_for_equal_arrays_however_they_lie_in_memory():
    table = VALUES.reshape(2, 3)
    assert (
        fingerprint(table)
        == fingerprint(np.asfortranarray(table))
        == fingerprint(table.repeat(2, axis=1)[:, ::2])
    )
    assert len(fingerprint(table)) == 16


def test_a_fingerprint_is_the_same_in_every_version():
    # Computed by hand with hashlib: sha256(b"<f4 (2,) " + struct.pack("<2f", 1, 2)).
    assert fingerprint(np.array([1, 2], dtype="<f4")) == "a2bf7679e75eeb84"


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ((np.nextafter(VALUES, 9),), "one unit in the last place"),
        ((VALUES[::-1],), "another order"),
        ((VALUES.reshape(2, 3),), "another shape"),
        ((VALUES.astype(np.float64),), "another type"),
        ((VALUES.astype(">f4"),), "another byte order"),
        ((VALUES[:3], VALUES[3:]), "cut in two"),
        ((VALUES, VALUES[:0]), "and an empty one"),
        ((), "nothing"),
        ((VALUES * np.where(VALUES == 0, -1, 1).astype(np.float32),), "minus zero"),
    ],
)
def test_a_fingerprint_tells_apart(arrays, reason):
    assert fingerprint(*arrays) != fingerprint(VALUES), reason


@pytest.mark.parametrize("array", [np.array(2.5), np.zeros((0, 4)), np.array([True, False])])
def test_a_fingerprint_takes_any_shape(array):
    assert len(fingerprint(array)) == 16


def test_an_identity_survives_a_file_beside_other_attributes(tmp_path):
    identity = {"grid": "alpha -1:1:5", "direction_α": "0123"}
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, value in {**as_attributes(identity), "host": "node1", "schema": 1}.items():
            file.attrs[name] = value
        assert of_attributes(file.attrs) == identity
        check_same(tmp_path / "x.h5", file.attrs, identity)


@pytest.mark.parametrize(
    ("now", "words", "reason"),
    [
        ({"grid": "5 x 4", "loss": "mse"}, "grid (file: 4 x 5; now: 5 x 4)", "a value differs"),
        (
            {"grid": "4 x 5", "loss": "mse", "data": "new"},
            "data (file: nothing; now: new)",
            "the file knows less",
        ),
        ({"grid": "4 x 5"}, "loss (file: mse; now: nothing)", "the file knows more"),
    ],
)
def test_another_identity_is_refused_with_both_values(now, words, reason):
    stored = as_attributes({"grid": "4 x 5", "loss": "mse"})
    with pytest.raises(LandscapeError) as caught:
        check_same(Path("surfaces/a.h5"), stored, now)
    text = str(caught.value)
    assert text.startswith("surfaces/a.h5: "), reason
    assert words in text, reason
    assert "--output" in text, reason
    assert "--overwrite" in text, reason


def test_every_difference_is_named():
    stored = as_attributes({"grid": "1", "loss": "2", "center": "3"})
    with pytest.raises(LandscapeError, match=r"grid .*, center "):
        check_same(Path("a.h5"), stored, {"grid": "0", "loss": "2", "center": "0"})


def test_a_file_of_before_has_a_loss_without_a_fingerprint():
    now = {"loss": "squared [python 3.11, 0123456789abcdef]"}
    check_same(Path("a.h5"), as_attributes({"loss": "squared"}), now)
    for stored in (
        "cubed",
        "squared [python 3.11, fedcba9876543210]",
        "squared [python 3.10, 0123456789abcdef]",
    ):
        with pytest.raises(LandscapeError, match="differs in loss"):
            check_same(Path("a.h5"), as_attributes({"loss": stored}), now)
    with pytest.raises(LandscapeError, match="differs in data"):
        check_same(Path("a.h5"), as_attributes({"data": "squared"}), {"data": now["loss"]})
