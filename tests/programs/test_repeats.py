"""Several lines in one file, each along a random direction of its own."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import mpi_landscape
from mpi_landscape import inspect, surface
from mpi_landscape.geometry.directions import random_direction
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.geometry.normalization import normalize
from mpi_landscape.storage.surface.reader import read_lines, read_surface
from plotting.__main__ import main as draw
from plotting.picture.field import field_of
from tests.exhaustive import values
from tests.programs.conftest import killed_in_the_middle

LINES = ("--line", "--set", "directions.alpha.seeds=[4, 9, 2]")
AUTO = "--set=compute.data_shards=auto"


class Bowl(nn.Module):
    """The parameters of the study."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 4))
        self.bias = nn.Parameter(torch.zeros(5))


def test_every_line_is_the_closed_form_along_the_direction_of_its_seed(study, computed):
    computed(*LINES)
    found = read_surface(study.output)
    assert found.train_loss.shape == (7, 3)
    assert found.seeds.tolist() == [4, 9, 2]
    layout, center = layout_of(Bowl()), torch.load(study.folder / "center.pt")
    start = torch.cat([center["weight"].reshape(-1), center["bias"]])
    for line, seed in enumerate([4, 9, 2]):
        # A direction that moves no bias, each of its rows as long as that of the center.
        step = random_direction(layout, seed=seed)
        step[12:] = 0
        step = normalize(step, start, layout, how="filter").double()
        assert torch.equal(torch.from_numpy(read_lines(study.output)[line]).double(), step)
        for row, alpha in enumerate(found.alpha):
            point = start.double() + alpha * step
            height = (torch.arange(1, 13) / 4 * (point[:12] - 0.5) ** 2).sum() / 2 + (
                point[12:] ** 2
            ).sum() / 2
            # The mean of the data is 4.5/64 and 1 + 3/64; the network is in float32.
            assert found.train_loss[row, line] == pytest.approx(float(height) + 4.5 / 64, rel=2e-6)
            assert found.test_loss[row, line] == pytest.approx(float(height) + 1 + 3 / 64, rel=2e-6)


def test_the_first_of_several_repeats_is_the_line_without_them_bit_for_bit(study, computed):
    single = study.folder / "single.h5"
    computed("--line", "--set", "directions.alpha.seed=5", "--output", str(single))
    computed("--line", "--set", "directions.alpha.seed=5", "--set", "directions.alpha.repeats=3")
    several, alone = read_surface(study.output), read_surface(single)
    assert several.seeds.tolist() == [5, 6, 7]
    for name in ("train_loss", "test_loss"):
        np.testing.assert_array_equal(several.values[name][:, 0], alone.values[name])
        np.testing.assert_array_equal(several.lines[0].values[name], alone.values[name])
        assert (several.values[name][0, 1:] != several.values[name][0, 0]).all()
    # The center is one point of all of them.
    at = several.alpha.tolist().index(0.0)
    assert len(set(several.train_loss[at].tolist())) == 1
    added, wanted = several.with_weight_decay(0.3, of="weights"), alone.with_weight_decay(0.3, of="weights")
    np.testing.assert_array_equal(added.train_loss[:, 0], wanted.train_loss)
    np.testing.assert_array_equal(
        several.lines[2].with_weight_decay(0.3, of="weights").train_loss, added.train_loss[:, 2]
    )


def test_one_repeat_has_a_dimension_of_its_own_too(study, computed):
    computed("--line", "--set", "directions.alpha.repeats=1")
    found = read_surface(study.output)
    assert found.with_weight_decay(1.0).train_loss.shape == found.train_loss.shape == (7, 1)


RESNET = """
model: {{name: resnet8, arguments: {{width: 4, input_size: [1, 8, 8]}}}}
data: {{name: digits}}
directions: {{alpha: {{repeats: 3}}}}
grid: {{alpha: [-1, 0.5, 4], beta: null}}
compute: {{data_shards: 3, points_per_tile: 5, device: cpu{more}}}
output: {folder}/reference.h5
"""


@pytest.mark.mpi
@pytest.mark.parametrize("more", values(["", ", quantities: [loss, gradient_norm], data_shards: 1"], ""))
def test_any_number_of_ranks_gives_the_same_bits(tmp_path, standing, contents, more):
    configuration = tmp_path / "resnet.yaml"
    text = RESNET.format(folder=tmp_path, more=more)
    configuration.write_text(text.replace("data_shards: 3, ", "") if more else text)
    for size in (1, 2, 3):
        output = str(tmp_path / f"{size}.h5")
        done = standing(size, "-m", "mpi_landscape.surface", str(configuration), "--output", output)
        assert done.returncode == 0, done.stderr
        assert "4 x 3 points of 3 lines (seeds 1 to 3)" in done.stdout
        assert "folded" in done.stdout, "a step that rewrites vectors rewrites all of them"
    found = [contents(tmp_path / f"{size}.h5") for size in (1, 2, 3)]
    assert {"train_loss", "repeat", "directions/alpha"} <= found[0].keys()
    assert found[0] == found[1] == found[2]


def test_by_any_engine_the_lines_are_those_of_the_network_itself(tmp_path, capsys):
    configuration = tmp_path / "resnet.yaml"
    configuration.write_text(RESNET.format(folder=tmp_path, more=""))
    for arguments in ((), ("--set", "compute.engine=plain", "--output", str(tmp_path / "plain.h5"))):
        with pytest.raises(SystemExit) as ended:
            surface.main([str(configuration), *arguments])
        assert ended.value.code == 0
    rewritten, plain = read_surface(tmp_path / "reference.h5"), read_surface(tmp_path / "plain.h5")
    np.testing.assert_allclose(rewritten.train_loss, plain.train_loss, rtol=1e-5)
    with pytest.raises(SystemExit) as ended:
        inspect.main(["--check", str(tmp_path / "reference.h5"), str(configuration), "--at", "0.5,3"])
    assert ended.value.code == 0
    assert "(0.5, 3)  train" in capsys.readouterr().out


@pytest.mark.parametrize("more", values([(), ("--set", "compute.save_vectors=false")], ()))
def test_killed_and_gone_on_with_it_is_the_file_of_one_run(study, computed, contents, more):
    computed(*LINES, *more, "--output", str(study.folder / "reference.h5"))
    killed_in_the_middle(study.folder, study.output, str(study.configuration), *LINES, *more)
    computed(*LINES, *more)
    assert contents(study.output) == contents(study.folder / "reference.h5")
    assert ("directions/alpha" in contents(study.output)) == (not more)


def test_other_seeds_are_another_file(study, here, computed):
    computed(*LINES)
    ended = here(surface.main, study.configuration, "--line", "--set", "directions.alpha.seeds=[4, 9, 3]")
    assert ended.status == 2
    assert "differs in grid" in ended.err
    assert "seeds 4, 9, 3" in ended.err
    ended = here(surface.main, study.configuration, "--line", "--set", "directions.alpha.seed=4")
    assert ended.status == 2


def test_samples_are_drawn_and_end_in_the_exact_lines(study, computed):
    computed(*LINES)
    exact = read_surface(study.output)
    sampled = study.folder / "sampled.h5"
    computed(*LINES, AUTO, "--relative-error=0.5", "--output", str(sampled))
    assert read_surface(sampled).values["train_loss_stderr"].shape == (7, 3)
    # Within the same file, without a relative error all of the samples come in.
    computed(*LINES, AUTO, "--output", str(sampled))
    np.testing.assert_allclose(read_surface(sampled).train_loss, exact.train_loss, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "directions.alpha.repeats=3"), "grid.beta is not null"),
        (("--set", "directions.beta.repeats=3"), "directions.beta has repeats"),
        ((*LINES, "--set", "directions.alpha.repeats=3"), "give one of the two"),
        (("--line", "--set", "directions.alpha.repeats=0"), "a whole number from 1 to 1000"),
        (("--line", "--set", "directions.alpha.seeds=[]"), "each once"),
        (("--line", "--set", "directions.alpha.seeds=[1, 1]"), "each once"),
        (
            ("--line", "--set", "directions.alpha.repeats=2", "--set", f"directions.alpha.seed={2**63 - 1}"),
            "seeds beyond",
        ),
        ((*LINES, "--set", "compute.precision=kept"), "which compute.precision kept does not know"),
        (
            ("--line", "--set", "directions.alpha={kind: difference, to: center.pt, repeats: 3}"),
            "repeats does not belong to kind difference",
        ),
    ],
)
def test_what_has_no_several_lines_is_refused(study, here, arguments, words):
    ended = here(surface.main, study.configuration, *arguments)
    assert ended.status == 2, ended.out
    assert words in ended.err
    assert ended.err.count("\n") == 1
    assert not study.output.exists()


def test_a_direction_of_several_is_no_direction_from_a_file(study, here, computed):
    computed(*LINES)
    other = ("--output", str(study.folder / "other.h5"))
    path = f"directions.alpha={{kind: file, path: {study.output}}}"
    ended = here(surface.main, study.configuration, "--line", "--set", path, *other)
    assert ended.status == 2
    assert "holds several lines" in ended.err


def test_a_damaged_direction_is_found_when_a_run_goes_on(study, here, computed):
    import h5py

    computed(*LINES)
    with h5py.File(study.output, "r+") as file:
        file["directions/alpha"][1, 3] += 1
    ended = here(surface.main, study.configuration, *LINES)
    assert ended.status == 2
    assert "directions/alpha is damaged" in ended.err


def test_the_file_is_labelled_and_inspect_tells_the_seeds(study, here, computed):
    xarray = pytest.importorskip("xarray")
    computed(*LINES)
    found = read_surface(study.output)
    with xarray.open_dataset(study.output) as file:
        assert file.train_loss.dims == ("alpha", "repeat")
        assert file["repeat"].values.tolist() == [4, 9, 2]
        xarray.testing.assert_identical(found.to_xarray(), file[found.quantities].load())
    with xarray.open_dataset(study.output, group="directions") as file:
        assert file["alpha"].shape == (3, 17)
    told = here(inspect.main, study.output)
    assert "alpha -0.75 to 1.5 in 7; 3 lines (seeds 4, 9, 2)" in told.out
    line = int(np.unravel_index(np.argmin(found.train_loss), found.train_loss.shape)[1])
    assert f", {[4, 9, 2][line]})" in next(each for each in told.out.splitlines() if "train_loss" in each)


def test_the_picture_has_every_line_their_mean_and_a_band_between_their_ends(study, computed):
    computed(*LINES)
    found = read_surface(study.output)
    field = field_of(found, "train_loss", as_line=True)
    np.testing.assert_allclose(field.values, found.train_loss.mean(axis=1))
    low, high = field.band.ends
    np.testing.assert_array_equal([low, high], [found.train_loss.min(axis=1), found.train_loss.max(axis=1)])
    figure = found.plot(quantity="train_loss")
    (ax,) = figure.axes
    thin = [each for each in ax.lines if each.get_gid() == "repeat"]
    assert [each.get_ydata().tolist() for each in thin] == found.train_loss.T.tolist()
    (band,) = (each for each in ax.collections if each.get_gid() == "band")
    corners = band.get_paths()[0].vertices
    assert corners[:, 1].max() == found.train_loss.max()
    assert "mean train loss" in [each.get_text() for each in ax.get_legend().get_texts()]
    assert draw([str(study.output)]) == 0
    assert (study.folder / "surface_line.png").exists()


def test_a_script_asks_for_lines_by_one_word():
    torch.manual_seed(0)
    model, data = nn.Linear(3, 4), TensorDataset(torch.randn(20, 3), torch.arange(20) % 4)
    lines = mpi_landscape.landscape(
        model,
        "cross_entropy",
        data,
        alpha=(-1, 1, 5),
        beta=None,
        repeats=3,
        directions={"alpha": {"seed": 7}},
    )
    assert lines.train_loss.shape == (5, 3)
    assert lines.seeds.tolist() == [7, 8, 9]
    assert "3 lines of 5 points" in repr(lines)
    lowest = lines.minimum
    assert lowest.value == lines.train_loss.min()
    with pytest.raises(mpi_landscape.LandscapeError, match="beta=None"):
        mpi_landscape.landscape(model, "cross_entropy", data, alpha=(-1, 1, 5), repeats=3)
