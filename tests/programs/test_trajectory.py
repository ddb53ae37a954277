"""Trajectories: axes, places, distances and losses against scikit-learn, closed forms and plain loops."""

import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA

import mpi_landscape
from mpi_landscape import inspect, surface, trajectory
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.geometry.plane import Plane
from mpi_landscape.problem.datasets.images import digits
from mpi_landscape.storage.surface.reader import read_surface
from mpi_landscape.storage.trajectory.reader import read_trajectory, read_vector
from tests.exhaustive import rows
from tests.programs.conftest import FAR
from tests.programs.ways import NUM, bowl_loss, bowls, residual


def program(path, *arguments):
    """Run `main` here; it must succeed."""
    with pytest.raises(SystemExit) as ended:
        trajectory.main([str(path), *map(str, arguments)])
    assert not ended.value.code


def vectors(path):
    return {name: read_vector(path, name)[0].astype(np.float64) for name in ("center", "alpha", "beta")}


def flat(states, layout):
    return np.stack(
        [
            np.concatenate([state[entry.name].double().numpy().ravel() for entry in layout.entries])
            for state in states
        ]
    )


@pytest.fixture
def bowl(study):
    """A study of the bowl with checkpoints in `run`."""
    text = study.configuration.read_text().replace(f"output: {study.folder}/surface.h5", "output: way.h5")
    study.configuration.write_text(f"{text}\ntrajectory: {{checkpoints: run}}\n")
    return study, bowls(study.folder / "run")


def test_principal_axes_are_those_of_scikit_learn(tmp_path):
    configuration, model, states = residual(tmp_path, "pca")
    program(configuration)
    found, own = read_trajectory(tmp_path / "run/trajectory.h5"), vectors(tmp_path / "run/trajectory.h5")
    differences = flat(states, layout_of(model))
    differences = differences[:-1] - differences[-1]
    oracle = PCA().fit(differences)
    np.testing.assert_allclose(found.variation, oracle.explained_variance_ratio_, atol=1e-5)
    for name, component in zip(("alpha", "beta"), oracle.components_, strict=False):
        component = component * np.sign(component @ own[name])
        np.testing.assert_allclose(own[name], component, atol=1e-5)
        np.testing.assert_allclose(
            getattr(found, name)[:-1], differences @ component, atol=1e-5 * np.linalg.norm(differences[0])
        )
        assert getattr(found, name)[-1] == 0
        assert getattr(found, name)[0] > 0
    components = oracle.components_[:2]
    rest = differences - differences @ components.T @ components
    np.testing.assert_allclose(found.distance[:-1], np.linalg.norm(rest, axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.from_center[:-1], np.linalg.norm(differences, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(found.epoch, 10 * np.arange(NUM))
    assert found.attributes["expected_cosine"] == pytest.approx(np.sqrt(2 / np.pi / differences.shape[1]))
    assert abs(found.attributes["cosine"]) < 1e-6
    np.testing.assert_allclose(list(found.shares.values()), found.variation[:2], atol=1e-6)


@pytest.mark.parametrize("statistics", [False, True])
def test_losses_are_those_of_a_plain_loop(tmp_path, statistics):
    configuration, model, states = residual(tmp_path, "pca")
    program(configuration, "--set", f"directions.normalization_buffers={str(statistics).lower()}")
    path = tmp_path / "run/trajectory.h5"
    found, own = read_trajectory(path), vectors(path)
    layout = layout_of(model, normalization_buffers=statistics)
    assert read_vector(path, "center")[1] == [entry.name for entry in layout.entries]

    def plain(state, split):
        model.load_state_dict(state)
        images, labels = zip(*[data[split][i] for i in range(len(data[split]))], strict=True)
        with torch.no_grad():
            outputs = model(torch.stack(images))
        labels = torch.as_tensor(labels)
        loss = F.cross_entropy(outputs.double(), labels).item()
        return loss, (outputs.argmax(1) == labels).double().mean().item()

    data = digits()
    for number in (0, 2, NUM - 1):
        for split in data:
            loss, accuracy = plain(states[number], split)
            assert found.values[f"{split}_loss"][number] == pytest.approx(loss, rel=1e-5)
            assert found.values[f"{split}_accuracy"][number] == pytest.approx(accuracy, abs=2e-3)
            point = own["center"] + found.alpha[number] * own["alpha"] + found.beta[number] * own["beta"]
            moved = {
                name: view.clone() for name, view in layout.views(torch.from_numpy(point).float()).items()
            }
            inside, _ = plain({**states[-1], **moved}, split)
            assert found.values[f"{split}_loss_in_plane"][number] == pytest.approx(inside, rel=1e-5)
    assert found.train_loss[-1] == found.train_loss_in_plane[-1]


def test_from_start_to_end_is_straight_and_begins_at_one(bowl, here):
    study, states = bowl
    ended = here(trajectory.main, study.configuration, "--set", "trajectory.axes=start_to_end")
    assert ended.status == 0, ended.err
    found = read_trajectory(study.folder / "way.h5")
    assert found.alpha[0] == pytest.approx(1, abs=1e-6)
    assert found.beta[0] == pytest.approx(0, abs=1e-6)
    assert found.distance[0] < 1e-6 * found.from_center[0]
    assert found.variation is None
    alpha, _ = read_vector(study.folder / "way.h5", "alpha")
    np.testing.assert_array_equal(
        alpha,
        np.concatenate([(states[0][name] - states[-1][name]).numpy().ravel() for name in ("weight", "bias")]),
    )


@pytest.mark.parametrize("axes", ["pca", "random", "start_to_end"])
def test_places_and_losses_are_those_of_least_squares_and_of_the_closed_form(bowl, here, axes):
    study, states = bowl
    ended = here(trajectory.main, study.configuration, "--set", f"trajectory.axes={axes}")
    assert ended.status == 0, ended.err
    path = study.folder / "way.h5"
    found, own = read_trajectory(path), vectors(path)
    layout = layout_of(Bowl())
    plane = Plane(
        layout=layout,
        center=torch.from_numpy(own["center"]),
        directions={name: torch.from_numpy(own[name]) for name in ("alpha", "beta")},
    )
    for number, vector in enumerate(flat(states, layout)):
        coordinates, distance = plane.project(torch.from_numpy(vector))
        np.testing.assert_allclose((found.alpha[number], found.beta[number]), coordinates, atol=1e-6)
        assert found.distance[number] == pytest.approx(distance, abs=1e-6)
        point = layout.views(plane.at(coordinates))
        for split, offset in (("train", 0.0), ("test", 1.0)):
            true = {name: value.double().numpy() for name, value in states[number].items()}
            assert found.values[f"{split}_loss"][number] == pytest.approx(bowl_loss(true, offset), rel=1e-5)
            inside = {name: view.double().numpy() for name, view in point.items()}
            assert found.values[f"{split}_loss_in_plane"][number] == pytest.approx(
                bowl_loss(inside, offset), rel=1e-5
            )
    np.testing.assert_array_equal(found.lowered(0), [2, 4])


class Bowl(torch.nn.Module):
    """Parameters as those of the study's."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3, 4))
        self.bias = torch.nn.Parameter(torch.zeros(5))


def test_several_share_a_plane_and_a_center(bowl, here):
    study, states = bowl
    second = study.folder / "second"
    second.mkdir()
    others = [{name: 1.5 * value + 0.1 for name, value in state.items()} for state in states[:4]]
    for number, state in enumerate(others):
        torch.save(state, second / f"ckpt{9 + number}.pth")
    text = study.configuration.read_text()
    study.configuration.write_text(text.replace("checkpoints: run", "checkpoints: {sgd: run, adam: second}"))
    assert here(trajectory.main, study.configuration).status == 0
    found = read_trajectory(study.folder / "way.h5")
    assert found.names == ("sgd", "adam")
    np.testing.assert_array_equal(found.index, [0] * NUM + [1] * 4)
    np.testing.assert_array_equal(found.epoch, [*range(NUM), 9, 10, 11, 12])
    layout = layout_of(Bowl())
    center = flat(states[-1:], layout)[0]
    differences = np.concatenate([flat(states[:-1], layout), flat(others, layout)]) - center
    oracle = PCA().fit(differences)
    np.testing.assert_allclose(found.variation, oracle.explained_variance_ratio_, atol=1e-5)
    np.testing.assert_array_equal(vectors(study.folder / "way.h5")["center"], center)
    assert (found.alpha[NUM - 1], found.beta[NUM - 1], found.distance[NUM - 1]) == (0, 0, 0)
    # A center that is none of them, and every second one.
    torch.save(others[0], study.folder / "other.pt")
    options = ("--overwrite", "--set", "trajectory.center=other.pt", "--set", "trajectory.every=2")
    assert here(trajectory.main, study.configuration, *options).status == 0
    found = read_trajectory(study.folder / "way.h5")
    np.testing.assert_array_equal(found.epoch, [0, 2, 4, 6, 9, 11, 12])
    assert len(found.variation) == 7
    assert found.distance[4] == pytest.approx(0, abs=1e-5), "it has the same values as the center"


def test_a_surface_on_its_axes_has_its_losses(bowl, here):
    study, _ = bowl
    assert here(trajectory.main, study.configuration).status == 0
    found = read_trajectory(study.folder / "way.h5")
    axis = "{kind: file, path: way.h5}"
    last = ("--set", f"model.checkpoint=run/epoch_{NUM - 1:04d}.pt")
    plane = ("--set", f"directions.alpha={axis}", "--set", f"directions.beta={axis}", *last)
    for number in (0, 3):
        places = {name: float(getattr(found, name)[number]) for name in ("alpha", "beta")}
        point = [f"--{name}={place!r}:{place!r}:1" for name, place in places.items()]
        ended = here(surface.main, study.configuration, *plane, *point, "--output", f"at{number}.h5")
        assert ended.status == 0, ended.err
        at = read_surface(study.folder / f"at{number}.h5")
        assert at.train_loss[0, 0] == pytest.approx(found.train_loss_in_plane[number], rel=1e-6)
    grid = (
        "--set",
        "grid.alpha=auto",
        "--set",
        "grid.beta=auto",
        "--set",
        "grid.alpha.num=13",
        "--set",
        "grid.beta.num=9",
    )
    ended = here(surface.main, study.configuration, *plane, *grid, "--output", "s.h5")
    assert ended.status == 0, ended.err
    assert "found by grid.alpha: auto" in ended.out
    whole = read_surface(study.folder / "s.h5")
    assert whole.train_loss.shape == (13, 9)
    for name, values in (("alpha", whole.alpha), ("beta", whole.beta)):
        path = getattr(found, name)
        margin = 0.1 * np.ptp(path)
        assert values[0] <= path.min() - margin
        assert values[-1] >= path.max() + margin
    center = np.flatnonzero(whole.alpha == 0)[0], np.flatnonzero(whole.beta == 0)[0]
    assert whole.train_loss[center] == pytest.approx(found.train_loss[-1], rel=1e-6)
    # Run again, it is the same surface; its text has the ordinary grid.
    assert here(surface.main, study.configuration, *plane, *grid, "--output", "s.h5").out.endswith(
        "complete\n"
    )
    assert "auto: true" not in read_surface(study.folder / "s.h5").attributes["configuration"]
    ended = here(surface.main, study.configuration, *plane[:4], *grid, "--output", "t.h5")
    assert ended.status == 2
    assert "is a trajectory around another center, run/epoch_0006.pt" in ended.err
    changed = ("--set", "directions.alpha.normalize=filter")
    ended = here(surface.main, study.configuration, *plane, *changed, *grid, "--output", "t.h5")
    assert ended.status == 2
    assert "directions.alpha changes the axis of way.h5" in ended.err


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("axes", "sizes"),
    rows(
        {
            "pca, 3 ranks": ("pca", (3,)),
            "pca": ("pca", (2, 5)),
            "start_to_end": ("start_to_end", (2, 3)),
            "random": ("random", (3,)),
        },
        "pca, 3 ranks",
    ),
)
def test_any_number_of_ranks_and_either_writer_give_the_same_bits(tmp_path, standing, contents, axes, sizes):
    configuration, *_ = residual(tmp_path, axes)
    program(configuration, "--output", tmp_path / "alone.h5")
    reference = contents(tmp_path / "alone.h5")
    assert {"trajectory/train_loss", "directions/beta", "items/checksum"} <= reference.keys()
    for size in sizes:
        for writer in ["root", "parallel"] if h5py.get_config().mpi else ["root"]:
            output = str(tmp_path / f"{size}_{writer}.h5")
            done = standing(
                size, "-m", "mpi_landscape.trajectory", configuration, "--output", output, "--writer", writer
            )
            assert done.returncode == 0, done.stderr
            assert contents(tmp_path / f"{size}_{writer}.h5") == reference, f"{size} ranks, {writer} writer"


def test_what_was_killed_goes_on_to_the_same_bits(bowl, here, contents):
    study, _ = bowl
    assert here(trajectory.main, study.configuration).status == 0
    reference = contents(study.folder / "way.h5")
    output = study.folder / "killed.h5"
    command = [
        sys.executable,
        "-m",
        "mpi_landscape.trajectory",
        str(study.configuration),
        "--output",
        str(output),
    ]
    job = subprocess.Popen(
        ["env", "SLEEP=0.05", *command],
        cwd=study.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    start = time.monotonic()
    while not (output.exists() and read_trajectory(output).done.sum() >= 2):
        assert time.monotonic() - start < FAR
        assert job.poll() is None
        time.sleep(0.02)
    job.kill()
    job.wait()
    half = read_trajectory(output)
    assert 0 < half.done.sum() < NUM
    assert np.isnan(half.train_loss[~half.done]).all()
    ended = here(trajectory.main, study.configuration, "--output", output)
    assert ended.status == 0, ended.err
    assert f"{half.done.sum()} of them done before" in ended.out
    assert contents(output) == reference


def test_another_run_is_refused(bowl, here):
    study, states = bowl
    assert here(trajectory.main, study.configuration).status == 0
    ended = here(trajectory.main, study.configuration, "--set", "trajectory.axes=random")
    assert ended.status == 2
    assert "belongs to another run, which differs in axes (file: pca; now: random)" in ended.err
    torch.save({name: value + 1 for name, value in states[2].items()}, study.folder / "run/epoch_0002.pt")
    ended = here(trajectory.main, study.configuration)
    assert ended.status == 2
    assert "differs in checkpoints" in ended.err
    assert here(trajectory.main, study.configuration, "--overwrite").status == 0


def test_xarray_and_inspect_read_it(bowl, here):
    study, _ = bowl
    assert here(trajectory.main, study.configuration).status == 0
    ended = here(inspect.main, "way.h5")
    assert ended.status == 0
    assert f"{NUM} of {NUM} checkpoints" in ended.out
    assert "of the variance of the checkpoints alpha" in ended.out
    assert here(inspect.main, "--json", "way.h5").out.startswith("{")
    found = read_trajectory(study.folder / "way.h5")
    assert "7 checkpoints on axes pca; finished" in repr(found)
    xarray = pytest.importorskip("xarray")
    with xarray.open_dataset(study.folder / "way.h5", group="trajectory", engine="h5netcdf") as group:
        assert group["train_loss"].dims == ("checkpoint",)
        np.testing.assert_array_equal(group["train_loss"], found.train_loss)
        assert group["train_loss"].attrs["units"] == "nats per example"
    np.testing.assert_array_equal(found.to_xarray()["alpha"], found.alpha)


def test_a_script_gets_the_same_and_keeps_its_network(tmp_path):
    configuration, model, states = residual(tmp_path, "pca")
    program(configuration)
    by_program = read_trajectory(tmp_path / "run/trajectory.h5")
    model.load_state_dict(states[3])
    model.train()
    found = mpi_landscape.trajectory(
        model,
        "cross_entropy",
        digits(),
        tmp_path / "run",
        output=tmp_path / "mine.h5",
        compute={"batch_size": 256},
    )
    assert model.training
    assert all(torch.equal(value, states[3][name]) for name, value in model.state_dict().items())
    np.testing.assert_array_equal(found.alpha, by_program.alpha)
    np.testing.assert_array_equal(found.test_loss_in_plane, by_program.test_loss_in_plane)
    with pytest.raises(mpi_landscape.LandscapeError, match=r"trajectory\(\): checkpoints is 3"):
        mpi_landscape.trajectory(model, "cross_entropy", digits(), 3)
