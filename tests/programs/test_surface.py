"""The numbers of the main program against closed forms and plain loops."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mpi_landscape import surface
from mpi_landscape.problem.datasets.images import digits
from mpi_landscape.problem.networks.resnet import resnet


def _datasets(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path, "r", locking=False) as file:
        names = [
            "alpha",
            "beta",
            "train_loss",
            "test_loss",
            "directions/center",
            "directions/alpha",
            "directions/beta",
        ]
        return {name: file[name][...] for name in names if name in file}


def _bowl(found: dict[str, np.ndarray], alpha: float, beta: float) -> float:
    """The bowl's height in float64, from the vectors that the file holds."""
    vectors = {name: found[f"directions/{name}"].astype(np.float64) for name in ("center", "alpha", "beta")}
    point = vectors["center"] + alpha * vectors["alpha"] + beta * vectors["beta"]
    steepness = np.arange(1, 13) / 4
    return float((steepness * (point[:12] - 0.5) ** 2).sum() / 2 + (point[12:] ** 2).sum() / 2)


def test_the_surface_of_a_quadratic_is_its_closed_form(study, computed):
    computed()
    found = _datasets(study.output)
    assert found["train_loss"].shape == (7, 4)
    for i, alpha in enumerate(found["alpha"]):
        for j, beta in enumerate(found["beta"]):
            height = _bowl(found, alpha, beta)
            # Sixteen float32 operations deep: a few units in the last place (6e-8 each).
            assert found["train_loss"][i, j] == pytest.approx(height + 4.5 / 64, rel=5e-7)
            assert found["test_loss"][i, j] == pytest.approx(height + 3.0 / 64 + 1, rel=5e-7)


def test_in_float64_the_surface_of_a_quadratic_is_exact_to_float64_rounding(study, computed):
    computed("--set", "compute.precision=float64")
    found = _datasets(study.output)
    for i, alpha in enumerate(found["alpha"]):
        for j, beta in enumerate(found["beta"]):
            assert found["train_loss"][i, j] == pytest.approx(_bowl(found, alpha, beta) + 4.5 / 64, rel=1e-14)


def test_a_line_has_no_second_direction(study, computed):
    computed("--line", "--alpha=0:1:5")
    with h5py.File(study.output, "r") as file:
        assert file["train_loss"].shape == (5,)
        assert "beta" not in file
        assert "beta" not in file["directions"]


def test_one_point_is_the_loss_of_the_checkpoint(study, computed):
    computed("--line", "--alpha=0:0:1")
    found = _datasets(study.output)
    center = torch.load(study.folder / "center.pt")
    steepness = torch.arange(1, 13).reshape(3, 4) / 4
    height = (steepness * (center["weight"] - 0.5) ** 2).sum() / 2 + (center["bias"] ** 2).sum() / 2
    assert found["train_loss"][0] == pytest.approx(height.item() + 4.5 / 64, rel=5e-7)


def test_by_default_only_weights_move(study, computed):
    computed()
    found = _datasets(study.output)
    assert np.all(found["directions/alpha"][12:] == 0)
    assert np.all(found["directions/alpha"][:12] != 0)
    # The rows of the weight are its filters.
    moved, center = (
        found[f"directions/{name}"][:12].reshape(3, 4).astype(np.float64) for name in ("alpha", "center")
    )
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), np.linalg.norm(center, axis=1), rtol=1e-6)


def test_shards_change_the_work_and_not_the_numbers(study, computed):
    computed()
    whole = _datasets(study.output)
    computed("--set", "compute.data_shards=3", "--output", str(study.folder / "sharded.h5"))
    sharded = _datasets(study.folder / "sharded.h5")
    for name in whole:
        # Float64 sums in another order.
        np.testing.assert_allclose(sharded[name], whole[name], rtol=1e-14)


def test_a_difference_between_two_checkpoints_ends_at_the_second(study, computed):
    end = {"weight": torch.full((3, 4), 0.5), "bias": torch.zeros(5)}
    torch.save({"model": {f"module.{name}": value for name, value in end.items()}}, study.folder / "end.pt")
    study.edit("grid:", f"directions:\n  alpha: {{kind: difference, to: {study.folder}/end.pt}}\ngrid:")
    computed("--line", "--alpha=0:1.5:4")
    # At α = 1 the bowl is at its bottom, where only the mean of the data is left.
    assert _datasets(study.output)["train_loss"][2] == pytest.approx(4.5 / 64, rel=1e-6)


def test_a_direction_is_taken_from_another_surface_file(study, computed):
    computed()
    first = _datasets(study.output)
    study.edit("grid:", f"directions: {{alpha: {{kind: file, path: {study.output}}}}}\ngrid:")
    computed("--set", "directions.beta.seed=9", "--output", str(study.folder / "second.h5"))
    second = _datasets(study.folder / "second.h5")
    assert np.array_equal(first["directions/alpha"], second["directions/alpha"])
    assert not np.array_equal(first["directions/beta"], second["directions/beta"])


def test_infinite_and_undefined_losses_are_kept_as_results(study, computed):
    study.edit_module("return model(batch[0])", "return (45 - model(batch[0])).log()")
    computed()
    with h5py.File(study.output, "r") as file:
        losses, status = file["train_loss"][...], file["tiles/status"][...]
    assert np.isnan(losses).any()
    assert np.isfinite(losses).any()
    assert np.all(status == 1)


def test_it_runs_where_mpi4py_is_absent(study):
    import subprocess

    code = (
        "import sys; sys.modules['mpi4py'] = None\n"
        "from mpi_landscape.surface import main\n"
        f"main([{str(study.configuration)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=study.folder)
    assert done.returncode == 0, done.stderr
    assert np.isfinite(_datasets(study.output)["train_loss"]).all()


def test_a_dry_run_prints_the_plan_and_writes_nothing(study, computed):
    before = sorted(study.folder.iterdir())
    done = computed("--dry-run")
    assert "7 x 4 points" in done.out
    assert "expected" in done.out
    assert [path for path in sorted(study.folder.iterdir()) if path.name != "__pycache__"] == before


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A small residual network after a few steps on the digits: far from random, its loss not yet rounding error."""
    torch.manual_seed(0)
    network = resnet(depth=8, width=4, input_size=(1, 8, 8), num_classes=10)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    train = digits()["train"]
    order = torch.randperm(len(train)).tolist()
    for start in range(0, 1280, 64):
        images, labels = zip(*(train[index] for index in order[start : start + 64]), strict=True)
        optimizer.zero_grad()
        F.cross_entropy(network(torch.stack(images)), torch.tensor(labels)).backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("trained") / "final.pt"
    torch.save({"state_dict": network.state_dict()}, path)
    return path


def _plain_surface(
    checkpoint: Path, found: dict[str, np.ndarray], split: str
) -> tuple[np.ndarray, np.ndarray]:
    """Loss and accuracy in float64, weights set tensor by tensor, all examples at once."""
    network = resnet(depth=8, width=4, input_size=(1, 8, 8), num_classes=10).double().eval()
    state = torch.load(checkpoint)["state_dict"]
    network.load_state_dict(state)
    images, labels = zip(*(digits()[split][index] for index in range(len(digits()[split]))), strict=True)
    inputs, targets = torch.stack(images).double(), torch.tensor(labels)
    vectors = {name: torch.from_numpy(found[f"directions/{name}"]).double() for name in ("alpha", "beta")}
    losses = np.empty((found["alpha"].size, found["beta"].size))
    accuracies = np.empty_like(losses)
    for i, alpha in enumerate(found["alpha"]):
        for j, beta in enumerate(found["beta"]):
            offset = 0
            with torch.no_grad():
                for name, parameter in network.named_parameters():
                    steps = [
                        vectors[axis][offset : offset + parameter.numel()].view_as(parameter)
                        for axis in vectors
                    ]
                    parameter.copy_(state[name].double() + alpha * steps[0] + beta * steps[1])
                    offset += parameter.numel()
                outputs = network(inputs)
                losses[i, j] = F.cross_entropy(outputs, targets)
                accuracies[i, j] = (outputs.argmax(1) == targets).double().mean()
    return losses, accuracies


@pytest.mark.slow
def test_the_surface_of_a_residual_network_is_that_of_a_plain_float64_loop(tmp_path, trained, here):
    configuration = tmp_path / "resnet.yaml"
    configuration.write_text(
        f"model: {{name: resnet8, arguments: {{width: 4, input_size: [1, 8, 8]}}, checkpoint: {trained}}}\n"
        f"data: {{name: digits}}\n"
        f"grid: {{alpha: [-1, 0.5, 4], beta: [-0.25, 1, 6]}}\n"
        f"output: {tmp_path}/surface.h5\n"
    )
    ended = here(surface.main, configuration)
    assert ended.status == 0, ended.err
    found = _datasets(tmp_path / "surface.h5")
    with h5py.File(tmp_path / "surface.h5", "r") as file:
        accuracy = {split: file[f"{split}_accuracy"][...] for split in ("train", "test")}
    for split in ("train", "test"):
        losses, accuracies = _plain_surface(trained, found, split)
        np.testing.assert_allclose(found[f"{split}_loss"], losses, rtol=1e-5)
        # Two outputs may be so close that float32 orders them otherwise: one example at most.
        np.testing.assert_allclose(accuracy[split], accuracies, atol=1.01 / len(digits()[split]))


@pytest.mark.parametrize("buffers", [True, False])
def test_a_line_between_two_solutions_ends_at_the_second_when_its_statistics_come_along(
    trained, tmp_path, here, buffers
):
    torch.manual_seed(5)
    other = resnet(depth=8, width=4, input_size=(1, 8, 8), num_classes=10)
    split = digits()["train"]
    images, labels = zip(*(split[index] for index in range(len(split))), strict=True)
    inputs, targets = torch.stack(images), torch.tensor(labels)
    other(inputs)  # in training mode: running statistics of its own
    torch.save(other.state_dict(), tmp_path / "other.pt")
    configuration = tmp_path / "line.yaml"
    configuration.write_text(
        f"model: {{name: resnet8, arguments: {{width: 4, input_size: [1, 8, 8]}}, checkpoint: {trained}}}\n"
        f"data: {{name: digits, splits: [train]}}\n"
        f"directions:\n"
        f"  alpha: {{kind: difference, to: {tmp_path}/other.pt}}\n"
        f"  normalization_buffers: {str(buffers).lower()}\n"
        f"grid: {{alpha: [0, 1, 3], beta: null}}\n"
        f"output: {tmp_path}/line.h5\n"
    )
    ended = here(surface.main, configuration)
    assert ended.status == 0, ended.err
    with torch.no_grad():
        expected = F.cross_entropy(other.eval()(inputs), targets).item()
    found = _datasets(tmp_path / "line.h5")["train_loss"][2]
    assert bool(found == pytest.approx(expected, rel=1e-5)) is buffers
