"""Histograms and norms of checkpoints against numpy on all numbers at once."""

import numpy as np
import pytest
import torch
from torch import nn

from mpi_landscape import weights
from mpi_landscape.errors import LandscapeError
from mpi_landscape.histograms import counting
from mpi_landscape.histograms.counting import Asked, count_weights
from mpi_landscape.storage.files import kind_of
from mpi_landscape.storage.weights_file import KIND, read_weights_file, write_weights
from plotting.__main__ import main as draw
from plotting.picture.weights import densities, stretch


def network(seed, width=7):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, width, 3), nn.BatchNorm2d(width), nn.ReLU(), nn.Flatten(), nn.Linear(width * 4, 5)
    )


@pytest.fixture
def saved(tmp_path):
    """Two checkpoints of one network, the second of them larger."""
    for seed in (1, 2):
        model = network(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(seed**2)
        model[1].running_var.fill_(1e6)
        folder = tmp_path / f"seed={seed}"
        folder.mkdir()
        torch.save({"state_dict": model.state_dict(), "epoch": 3}, folder / "final.pt")
    return [str(tmp_path / f"seed={seed}" / "final.pt") for seed in (1, 2)]


def numbers(path, names):
    state = torch.load(path)["state_dict"]
    return np.concatenate([state[name].double().numpy().reshape(-1) for name in names])


@pytest.mark.parametrize("piece", [2**20, 13])
def test_counts_and_norms_are_those_of_numpy(saved, piece, monkeypatch):
    monkeypatch.setattr(counting, "_PIECE", piece)
    found = count_weights(saved, Asked(bins=31))
    every = [numbers(path, ("0.weight", "4.weight")) for path in saved]
    edges = np.histogram_bin_edges(np.concatenate(every), 31)
    np.testing.assert_array_equal(found.bin_edges, edges)
    for place, weight in enumerate(every):
        np.testing.assert_array_equal(found.count[place], np.histogram(weight, edges)[0])
    assert found.tensors == ("0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias")
    assert found.counted.tolist() == [True, False, False, False, True, False], "weights have two axes or more"
    for place, path in enumerate(saved):
        wanted = [np.linalg.norm(numbers(path, (name,))) for name in found.tensors]
        np.testing.assert_allclose(found.norm[place], wanted, rtol=1e-14)
    assert found.checkpoints == ("seed=1", "seed=2")


def test_a_range_and_globs_are_what_was_asked_for(saved):
    found = count_weights(saved, Asked(bins=8, ends=(-0.1, 0.05), tensors=("*.bias",)))
    for place, path in enumerate(saved):
        bias = numbers(path, ("0.bias", "1.bias", "4.bias"))
        np.testing.assert_array_equal(found.count[place], np.histogram(bias, 8, (-0.1, 0.05))[0])
        assert found.below[place] == (bias < -0.1).sum()
        assert found.above[place] == (bias > 0.05).sum()
        assert found.count[place].sum() + found.below[place] + found.above[place] == bias.size


def test_every_kind_of_number_is_counted_and_what_is_not_finite_is_told(tmp_path):
    shared = torch.randn(4, 3)
    state = {
        "half": torch.randn(5, 2).bfloat16(),
        "complex": torch.randn(3, 3, dtype=torch.complex64),
        "double": torch.tensor([[1.5, np.nan, np.inf, -np.inf]], dtype=torch.float64),
        "encoder": shared,
        "decoder": shared,
        "steps": torch.arange(9).reshape(3, 3),
    }
    torch.save(state, tmp_path / "a.pt")
    found = count_weights([str(tmp_path / "a.pt")], Asked(bins=10))
    assert found.tensors == ("half", "complex", "double", "encoder"), "a tied tensor counts once"
    assert found.not_finite.tolist() == [3]
    assert found.count.sum() == 10 + 18 + 1 + 12
    assert found.norm[0, 1] == pytest.approx(float(torch.linalg.vector_norm(state["complex"])))
    assert np.isnan(found.norm[0, 2])


def test_a_network_without_matrices_has_all_of_its_numbers_counted(tmp_path):
    torch.save({"w": torch.ones(3)}, tmp_path / "a.pt")
    found = count_weights([str(tmp_path / "a.pt")], Asked(bins=4))
    # All weights are one number: the bins are set around it, as numpy does it.
    np.testing.assert_array_equal(found.bin_edges, np.histogram_bin_edges(np.ones(3), 4))
    assert found.count.sum() == 3


def test_one_checkpoint_at_a_time_is_read_and_each_twice(saved, monkeypatch):
    read = []
    whole = counting.read_weights
    monkeypatch.setattr(counting, "read_weights", lambda source: read.append(source.path) or whole(source))
    count_weights(saved, Asked())
    assert read == saved * 2


def test_the_file_holds_what_was_counted(saved, tmp_path):
    counts = count_weights(saved, Asked(bins=12))
    write_weights(tmp_path / "w.h5", counts)
    found = read_weights_file(tmp_path / "w.h5")
    assert kind_of(tmp_path / "w.h5") == KIND
    for name in ("bin_edges", "count", "below", "above", "not_finite", "norm", "sizes", "counted"):
        np.testing.assert_array_equal(getattr(found, name), getattr(counts, name))
    assert (found.tensors, found.checkpoints, found.sources) == (
        counts.tensors,
        counts.checkpoints,
        tuple(saved),
    )
    xarray = pytest.importorskip("xarray")
    with xarray.open_dataset(tmp_path / "w.h5", group="weights") as file:
        assert file["count"].dims == ("checkpoint", "bin")
        assert file["norm"].dims == ("checkpoint", "tensor")


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        weights.main([str(each) for each in arguments])
    said = capsys.readouterr()
    return ended.value.code, said.out + said.err


def test_the_program_writes_the_file_and_plotting_draws_both_pictures(saved, tmp_path, capsys):
    output = tmp_path / "w.h5"
    status, said = run(capsys, *saved, "--output", output, "--bins", "20")
    assert status == 0, said
    norm = np.linalg.norm(
        numbers(saved[1], ("0.weight", "0.bias", "1.weight", "1.bias", "4.weight", "4.bias"))
    )
    assert f"checkpoint  seed=2: norm {norm:.6g}" in said
    status, said = run(capsys, *saved, "--output", output)
    assert status == 2
    assert "is there already" in said
    assert run(capsys, *saved, "--output", output, "--overwrite", "--bins", "30")[0] == 0
    assert len(read_weights_file(output).bin_edges) == 31
    assert draw([str(output)]) == 0
    assert (tmp_path / "w_histogram.png").exists()
    assert (tmp_path / "w_norms.png").exists()


@pytest.mark.parametrize("bins", [40, 1000])
def test_the_curves_of_the_pictures_are_the_numbers_of_the_file(saved, bins):
    from plotting.drawn.weights import draw_weights

    counts = count_weights(saved, Asked(bins=bins))
    edges, found = densities(counts)
    assert (edges[0], edges[-1]) == stretch(counts)
    assert len(edges) <= 121
    assert set(edges) <= set(counts.bin_edges)
    every = [numbers(path, ("0.weight", "4.weight")) for path in saved]
    wanted = [np.histogram(each, edges)[0] / len(each) / np.diff(edges) for each in every]
    np.testing.assert_allclose(found, wanted)
    (ax,) = draw_weights("histogram", counts, title="").axes
    outlines = [patch.get_data().values for patch in ax.patches if not patch.get_fill()]
    np.testing.assert_allclose(outlines, wanted)
    assert ax.get_xlim() == stretch(counts)
    (ax,) = draw_weights("norms", counts, title="").axes
    np.testing.assert_array_equal([line.get_ydata() for line in ax.lines], counts.norm[:, counts.counted])
    assert [each.get_text() for each in ax.get_xticklabels()] == ["0.weight", "4.weight"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--bins", "0"), "expected a whole number from 1"),
        (("--range", "1:0"), "the lower one first"),
        (("--range", "a:b"), "the lower one first"),
        (("--tensors", "x*"), "matches none"),
        (("--key", "nothing"), "nothing"),
    ],
)
def test_what_cannot_be_counted_is_refused(saved, tmp_path, capsys, arguments, words):
    status, said = run(capsys, *saved, "--output", tmp_path / "w.h5", *arguments)
    assert status == 2, said
    assert words in said
    assert not (tmp_path / "w.h5").exists()


def test_another_network_and_a_file_that_is_something_else_are_refused(saved, tmp_path, capsys):
    torch.save(network(3, width=8).state_dict(), tmp_path / "other.pt")
    status, said = run(capsys, *saved, tmp_path / "other.pt", "--output", tmp_path / "w.h5")
    assert status == 2
    assert (
        "of tensor 0.weight it has one of shape (8, 2, 3, 3), and that has one of shape (7, 2, 3, 3)" in said
    )
    (tmp_path / "w.h5").write_text("mine")
    status, said = run(capsys, *saved, "--output", tmp_path / "w.h5", "--overwrite")
    assert status == 2
    assert (tmp_path / "w.h5").read_text() == "mine"
    status, said = run(capsys, saved[0], tmp_path / "none.pt", "--output", tmp_path / "v.h5")
    assert status == 2
    assert "none.pt" in said


def test_a_damaged_file_is_refused_by_name(saved, tmp_path):
    import h5py

    write_weights(tmp_path / "w.h5", count_weights(saved, Asked()))
    with h5py.File(tmp_path / "w.h5", "r+") as file:
        file["weights/bin_edges"][3] = -100
    with pytest.raises(LandscapeError, match=r"w\.h5: is damaged: its bins do not increase"):
        read_weights_file(tmp_path / "w.h5")


def test_other_kinds_of_pictures_are_refused(saved, tmp_path, capsys):
    write_weights(tmp_path / "w.h5", count_weights(saved, Asked()))
    for arguments, words in (
        (("--kind", "contour"), "valid here: histogram, norms"),
        (("--quantity", "train_loss"), "--quantity is not for a file of weights"),
    ):
        assert draw([str(tmp_path / "w.h5"), *arguments]) == 2
        assert words in capsys.readouterr().err
