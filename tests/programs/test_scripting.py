"""The same computation from Python."""

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import mpi_landscape

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
        mpi_landscape.landscape(model, lambda m, b: m(b[0]).mean(), data, output=tmp_path / "x.h5")
    assert not (tmp_path / "x.h5").exists()


def test_the_same_script_runs_on_many_ranks(tmp_path, standing, contents):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for size in (1, 3):
        done = standing(size, str(script), str(tmp_path / f"{size}.h5"))
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("progress 1.0") == size
    assert contents(tmp_path / "1.h5") == contents(tmp_path / "3.h5")
