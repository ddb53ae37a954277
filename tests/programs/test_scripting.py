"""The same computation from Python."""

import contextlib

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import mpi_landscape
from mpi_landscape.evaluation import precision

SCRIPT = r"""
import torch, sys
from torch import nn
from torch.utils.data import TensorDataset
import mpi_landscape

torch.manual_seed(1)
model = nn.Linear(3, 4)
data = TensorDataset(torch.randn(20, 3), torch.arange(20) % 4)
surface = mpi_landscape.landscape(model, "cross_entropy", data, alpha=(-1, 1, 5), beta=(0, 1, 3), output=sys.argv[1])
sys.stdout.write(f"progress {surface.progress}\n")
"""


@pytest.fixture
def linear():
    torch.manual_seed(1)
    model = nn.Linear(3, 4).double().train()
    return model, TensorDataset(torch.randn(20, 3), torch.arange(20) % 4)


def test_the_values_are_those_of_a_plain_loop(linear, tmp_path):
    model, data = linear
    surface = mpi_landscape.landscape(
        model,
        "cross_entropy",
        data,
        alpha=(-1, 0.5, 4),
        beta=(0, 1, 3),
        output=tmp_path / "linear.h5",
        compute={"precision": "float64"},
    )
    assert surface.progress == 1, "something has stopped it"
    with h5py.File(tmp_path / "linear.h5", "r") as file:
        vectors = [
            torch.from_numpy(file[f"directions/{name}"][...]).double() for name in ("center", "alpha", "beta")
        ]
    inputs, targets = data.tensors
    for i, alpha in enumerate(surface.alpha):
        for j, beta in enumerate(surface.beta):
            point = vectors[0] + alpha * vectors[1] + beta * vectors[2]
            outputs = inputs.double() @ point[:12].view(4, 3).T + point[12:]
            expected = nn.functional.cross_entropy(outputs, targets).item()
            assert surface.values["train_loss"][i, j] == pytest.approx(expected, rel=1e-12)


def test_the_callers_network_is_left_untouched(linear, tmp_path):
    model, data = linear
    before = {name: (tensor.clone(), tensor.data_ptr()) for name, tensor in model.state_dict().items()}
    mpi_landscape.landscape(
        model, "cross_entropy", data, alpha=(-1, 1, 3), beta=None, output=tmp_path / "line.h5"
    )
    assert model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name][0])
        assert tensor.data_ptr() == before[name][1]
        assert tensor.dtype == torch.float64


def test_a_second_call_resumes_and_another_network_is_refused(linear, tmp_path):
    model, data = linear
    call = {"alpha": (-1, 1, 3), "beta": None, "output": tmp_path / "line.h5"}
    first = mpi_landscape.landscape(model, "cross_entropy", data, **call)
    again = mpi_landscape.landscape(model, "cross_entropy", data, **call)
    assert np.array_equal(first.values["train_loss"], again.values["train_loss"])
    with pytest.raises(mpi_landscape.LandscapeError, match=r"center \(file: "):
        mpi_landscape.landscape(nn.Linear(3, 4), "cross_entropy", data, **call)


def test_bad_arguments_are_refused_like_a_bad_configuration(linear, tmp_path):
    model, data = linear
    with pytest.raises(mpi_landscape.LandscapeError, match=r"landscape\(\): grid.alpha"):
        mpi_landscape.landscape(model, "cross_entropy", data, alpha=(1, -1, 3), output=tmp_path / "x.h5")
    with pytest.raises(mpi_landscape.LandscapeError, match="one value per example"):
        mpi_landscape.landscape(model, lambda m, b: m(b[0]).max(), data, output=tmp_path / "x.h5")
    assert not (tmp_path / "x.h5").exists()


def test_the_same_script_runs_on_many_ranks(tmp_path, standing, contents):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for size in (1, 3):
        done = standing(size, str(script), str(tmp_path / f"{size}.h5"))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("progress 1.0") == size
    assert contents(tmp_path / "1.h5") == contents(tmp_path / "3.h5")


LINE = {"alpha": (-1, 1, 3), "beta": None}


def test_numbers_of_numpy_are_numbers(linear, tmp_path):
    model, data = linear
    plain = mpi_landscape.landscape(model, "cross_entropy", data, **LINE, output=tmp_path / "plain.h5")
    for number, alpha in enumerate(
        [(np.int64(-1), np.float32(1), np.int32(3)), np.array([-1, 1, 3]), torch.tensor([-1, 1, 3])]
    ):
        found = mpi_landscape.landscape(
            model, "cross_entropy", data, alpha=alpha, beta=None, output=tmp_path / f"{number}.h5",
            directions={"alpha": {"kind": "random", "seed": np.int64(1)}}, compute={"batch_size": np.int64(20)},
        )  # fmt: skip
        assert np.allclose(found.values["train_loss"], plain.values["train_loss"])


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ({"model": nn.Linear}, "model is the class Linear"),
        ({"loss": 5}, "loss is 5"),
        ({"data": {"train set": []}}, "a split named 'train set'"),
        ({"alpha": 5}, "grid.alpha is 5"),
        ({"compute": 5}, "compute is 5"),
        ({"directions": "random"}, "directions is 'random'"),
        ({"output": 5}, "output is 5"),
        ({"title": 5}, "title is 5"),
        ({"writer": "nobody"}, "writer is 'nobody'; valid are"),
        ({"time_limit": "soon"}, "time_limit is 'soon'"),
    ],
)
def test_what_a_script_cannot_mean_is_refused_in_one_line(linear, tmp_path, argument, words):
    model, data = linear
    given = {"model": model, "loss": "mse", "data": data, **LINE, "output": tmp_path / "x.h5", **argument}
    with pytest.raises(mpi_landscape.LandscapeError) as caught:
        mpi_landscape.landscape(given.pop("model"), given.pop("loss"), given.pop("data"), **given)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "x.h5").exists()


def test_a_file_that_is_open_here_is_refused_for_that_reason(linear, tmp_path):
    model, data = linear
    output = tmp_path / "line.h5"
    mpi_landscape.landscape(model, "cross_entropy", data, **LINE, output=output)
    with (
        h5py.File(output, "r+"),
        pytest.raises(mpi_landscape.LandscapeError, match="is open in this process"),
    ):
        mpi_landscape.landscape(model, "cross_entropy", data, **LINE, output=output)


class Clock(nn.Module):
    def __init__(self):
        super().__init__()
        self.line = nn.Linear(1, 1)

    def forward(self, times):
        return self.line(((times - 1.7e9) / 100).float())


def test_times_in_float64_are_not_rounded(tmp_path, capsys):
    # float32 tells 1.7e9 and 1.7e9 + 64 apart, and nothing in between.
    torch.manual_seed(0)
    model, times = Clock(), torch.arange(1.7e9, 1.7e9 + 50, dtype=torch.float64)[:, None]
    exact = ((times - 1.7e9) / 100).float()
    surface = mpi_landscape.landscape(
        model, "mse", TensorDataset(times, exact), alpha=(-1, 1, 5), beta=None, output=tmp_path / "times.h5"
    )
    assert "inputs      train: as given: float64" in capsys.readouterr().out
    with h5py.File(tmp_path / "times.h5") as file:
        center, direction = (file[f"directions/{name}"][...].astype(float) for name in ("center", "alpha"))
        assert file.attrs["arithmetic"].decode().startswith("float32 measured")
    for alpha, found in zip(surface.alpha, surface.values["train_loss"], strict=True):
        weight, bias = center + alpha * direction
        inputs = exact.double().numpy()
        assert found == pytest.approx(np.mean((weight * inputs + bias - inputs) ** 2), rel=1e-6)


def modes():
    """Each with a name: what a caller may have switched on."""
    return {
        "autocast": torch.autocast("cpu", dtype=torch.bfloat16),
        "inference": torch.inference_mode(),
        "no gradients": torch.no_grad(),
        "another device": torch.device("meta"),
    }


@pytest.mark.parametrize("mode", modes())
@pytest.mark.parametrize("quantities", [["loss"], ["loss", "gradient_norm"]])
def test_what_the_caller_has_switched_on_changes_no_bit(linear, tmp_path, mode, quantities):
    model, data = linear
    call = {**LINE, "compute": {"quantities": quantities}}
    expected = mpi_landscape.landscape(model, "cross_entropy", data, **call, output=tmp_path / "a.h5")
    with modes()[mode]:
        found = mpi_landscape.landscape(model, "cross_entropy", data, **call, output=tmp_path / "b.h5")
    for name, values in expected.values.items():
        assert np.array_equal(found.values[name], values)


def test_another_default_type_changes_no_bit(linear, tmp_path):
    model, data = linear
    expected = mpi_landscape.landscape(model, "cross_entropy", data, **LINE, output=tmp_path / "a.h5")
    torch.set_default_dtype(torch.float64)
    try:
        found = mpi_landscape.landscape(model, "cross_entropy", data, **LINE, output=tmp_path / "b.h5")
    finally:
        torch.set_default_dtype(torch.float32)
    assert np.array_equal(found.values["train_loss"], expected.values["train_loss"])


class Rotated(nn.Module):
    """Multiplies by e^{i angle}, of which the loss sees the real part."""

    def __init__(self, angle):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("turn", torch.polar(torch.ones(1), torch.tensor([angle])))

    def forward(self, inputs):
        return (self.scale * inputs * self.turn * self.turn).real


def test_a_complex_buffer_keeps_its_imaginary_part(tmp_path):
    inputs = torch.arange(1.0, 5)[:, None]
    call = {"alpha": (-1, 1, 3), "beta": None, "compute": {"precision": "float32"}}
    call["directions"] = {"alpha": {"kind": "random", "normalize": "none", "ignore": []}}
    for name in ("float32", "float64"):
        output = tmp_path / f"{name}.h5"
        call["compute"] = {"precision": name}
        surface = mpi_landscape.landscape(
            Rotated(1.0), "mse", TensorDataset(inputs, 0 * inputs), **call, output=output
        )
        with h5py.File(output) as file:
            step = float(file["directions/alpha"][0])
        expected = [np.mean(((1 + a * step) * np.cos(2.0) * inputs.numpy()) ** 2) for a in surface.alpha]
        assert surface.values["train_loss"] == pytest.approx(expected, rel=1e-5)
    # The real part of one angle is that of the other: only the imaginary part tells them apart.
    with pytest.raises(mpi_landscape.LandscapeError, match="differs in buffers"):
        mpi_landscape.landscape(
            Rotated(-1.0), "mse", TensorDataset(inputs, 0 * inputs), **call, output=output
        )


def test_another_loss_of_the_same_name_is_refused(linear, tmp_path):
    model, data = linear

    def weighted(weight):
        def loss(model, batch):
            return weight * nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")

        return loss

    # So close that the loss at the center does not tell them apart.
    call = {**LINE, "output": tmp_path / "x.h5"}
    first = mpi_landscape.landscape(model, weighted(1.0), data, **call)
    again = mpi_landscape.landscape(model, weighted(1.0), data, **call)
    assert np.array_equal(first.values["train_loss"], again.values["train_loss"])
    with pytest.raises(mpi_landscape.LandscapeError, match="differs in loss"):
        mpi_landscape.landscape(model, weighted(1.00001), data, **call)
    # A file of before has the name alone.
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file.attrs["identity_loss"] = file.attrs["identity_loss"].decode().partition(" [")[0]
    mpi_landscape.landscape(model, weighted(1.0), data, **call)


def test_what_the_network_itself_gives_is_seen_in_no_fewer_bits_before_and_after(
    linear, tmp_path, monkeypatch
):
    """As TF32 does it on a GPU: within its context products lose bits, and outside they do not."""
    model, data = linear
    fewer_bits = []

    @contextlib.contextmanager
    def computing():
        fewer_bits.append(True)
        yield
        fewer_bits.pop()

    def loss(model, batch):
        losses = nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
        return losses * (1 + 1e-4) if fewer_bits else losses

    tf32 = precision.Precision(name="tf32", approximate=True, computing=computing)
    monkeypatch.setattr(precision, "_PRECISIONS", (tf32,))
    surface = mpi_landscape.landscape(
        model.float(),
        loss,
        data,
        alpha=(-1, 1, 3),
        beta=(0, 1, 2),
        output=tmp_path / "linear.h5",
        compute={"precision": "tf32"},
    )
    engine, plain = (
        np.array(surface.attributes[name]) for name in ("checked_train_loss", "checked_train_loss_plain")
    )
    np.testing.assert_allclose(engine, plain * (1 + 1e-4), rtol=1e-6)
