"""The comparison of two commits sees every bit that differs, and nothing else."""

import h5py
import numpy as np
import pytest
import torch

from tests.test_engine_benchmark import load


@pytest.fixture
def bits():
    return load("bits")


@pytest.fixture
def sides(tmp_path):
    """Two folders with the same results, made at different hours."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        with h5py.File(tmp_path / name / "a.h5", "w") as file:
            file["loss"] = np.array([[0.0, np.nan, 1.0]])
            file["seconds"] = np.random.default_rng().random(3)
            file.attrs["created"] = f"when {name} was made"
            file.attrs["configuration"] = "model: a\nloss: b\n"
            file.attrs["batch_size"] = 16
        state = {"weight": torch.arange(6.0).reshape(2, 3), "epoch": 3}
        torch.save({"state_dict": state}, tmp_path / name / "a.pt")
    return tmp_path / "old", tmp_path / "new"


def change_hdf5(change):
    def apply(folder):
        with h5py.File(folder / "a.h5", "r+") as file:
            change(file)

    return apply


def change_tensor(change):
    def apply(folder):
        content = torch.load(folder / "a.pt", weights_only=True)
        change(content["state_dict"])
        torch.save(content, folder / "a.pt")

    return apply


PLANTED = [
    (
        change_hdf5(lambda file: file["loss"].write_direct(np.array([[-0.0, np.nan, 1.0]]))),
        "the sign of a zero",
    ),
    (change_hdf5(lambda file: file.attrs.modify("batch_size", 17)), "a number beside the arrays"),
    (change_hdf5(lambda file: file.create_dataset("more", data=1)), "an array on one side alone"),
    (change_tensor(lambda state: state["weight"].view(-1)[:1].add_(1e-45)), "the last bit of a weight"),
    (change_tensor(lambda state: state.update(epoch=4)), "what stands beside the weights"),
    (lambda folder: (folder / "a.pt").unlink(), "a file"),
]


def test_what_is_the_same_is_said_to_be(bits, sides):
    assert bits.report(bits.compare_folders(*sides)) == 0


@pytest.mark.parametrize(("plant", "reason"), PLANTED, ids=[reason for _, reason in PLANTED])
def test_every_difference_in_numbers_is_found(bits, sides, plant, reason):
    plant(sides[1])
    found = bits.compare_folders(*sides)
    assert bits.report(found, texts_may_differ=True) == 1, reason
    assert sum(map(len, found.values())) == 1


def test_a_text_that_differs_counts_unless_it_may(bits, sides, capsys):
    change_hdf5(lambda file: file.attrs.modify("configuration", "model: a\nloss: c\n"))(sides[1])
    found = bits.compare_folders(*sides)
    assert bits.report(found) == 1
    assert bits.report(found, texts_may_differ=True) == 0
    assert "@configuration: - loss: b; + loss: c" in capsys.readouterr().out


def test_nothing_to_compare_is_no_success(bits, tmp_path):
    assert bits.report(bits.compare_folders(tmp_path, tmp_path)) == 1
