"""Runs of numbers of a checkpoint, read from files of many kinds, are those of the whole."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.placement.columns import fingerprint_of_rest, stored_vector
from mpi_landscape.problem.checkpoints import Source, load
from mpi_landscape.problem.weights import parts
from tests.exhaustive import rows


class Mixed(nn.Module):
    """Convolutions, batch normalization, a tied and a complex parameter, and one of whole numbers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 5, bias=False)
        self.tied = nn.Linear(8, 5, bias=False)
        self.tied.weight = self.head.weight
        self.phase = nn.Parameter(torch.randn(3, 2, dtype=torch.complex64))
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.level = nn.Parameter(torch.arange(4), requires_grad=False)


@pytest.fixture
def model():
    torch.manual_seed(2)
    return Mixed()


def state_of(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def changed(change):
    return lambda model, path: torch.save(
        {name: change(each) for name, each in state_of(model).items()}, path
    )


def real(kind):
    return lambda each: each.to(kind) if each.is_floating_point() else each


SAVED = {
    "torch": (".pt", changed(lambda each: each)),
    "in a mapping": (
        ".ckpt",
        lambda model, path: torch.save({"state_dict": state_of(model), "epoch": 3}, path),
    ),
    "of before 1.6": (
        ".pth",
        lambda model, path: torch.save(state_of(model), path, _use_new_zipfile_serialization=False),
    ),
    "float64": (".pt", changed(real(torch.float64))),
    "bfloat16": (".pt", changed(real(torch.bfloat16))),
    "float16": (".pt", changed(real(torch.float16))),
    "channels last": (
        ".pt",
        changed(lambda each: each.to(memory_format=torch.channels_last) if each.dim() == 4 else each),
    ),
    "transposed": (".pt", changed(lambda each: each.t().contiguous().t() if each.dim() == 2 else each)),
    "bfloat16, channels last": (
        ".pt",
        changed(
            lambda each: each.bfloat16().to(memory_format=torch.channels_last) if each.dim() == 4 else each
        ),
    ),
    "conjugate": (".pt", changed(lambda each: each.conj() if each.is_complex() else each)),
    "wrapped": (
        ".pt",
        lambda model, path: torch.save(
            {f"module.{name}": each for name, each in state_of(model).items()}, path
        ),
    ),
    "safetensors": (
        ".safetensors",
        lambda model, path: save_file(
            {name: each for name, each in state_of(model).items() if name != "tied.weight"}, path
        ),
    ),
}
TABLE = rows(SAVED, "torch", "safetensors", "bfloat16, channels last", "float64")


@pytest.mark.parametrize(("ending", "save"), TABLE)
@pytest.mark.parametrize("buffers", [False, True])
def test_any_run_of_numbers_is_that_of_the_flat_vector(model, tmp_path, ending, save, buffers):
    path = tmp_path / f"some weights{ending}"
    save(model, path)
    layout = layout_of(model, normalization_buffers=buffers)
    vector, rest = stored_vector(model, layout, Source(path=str(path)))
    load(model, Source(path=str(path)), where="here")
    whole = layout.flatten(dict(model.state_dict()), where="here").numpy()
    generator = np.random.default_rng(0)
    ends = [(0, layout.size), *np.sort(generator.integers(0, layout.size, size=(30, 2))).tolist()]
    for start, stop in ends:
        into = torch.full((stop - start,), torch.nan)
        vector.read(start, into)
        np.testing.assert_array_equal(into.numpy(), whole[start:stop], err_msg=f"{start} to {stop}")
    assert ("norm.running_mean" in rest) is not buffers
    assert "level" in rest


def test_what_is_the_files_own_bytes_is_read_from_the_file(model, tmp_path):
    torch.save(state_of(model), tmp_path / "a.pt")
    vector, _ = stored_vector(model, layout_of(model), Source(path=str(tmp_path / "a.pt")))
    assert {part.file for part in vector.parts} == {str(tmp_path / "a.pt")}


def test_bytes_that_are_not_those_of_the_file_are_taken_from_memory(model, tmp_path, monkeypatch):
    """As those of a file of the other byte order, which is mapped and then changed."""
    path = tmp_path / "a.pt"
    torch.save(state_of(model), path)
    state = {"first.weight": model.first.weight.detach(), "scale": model.scale.detach()}
    monkeypatch.setattr(parts._Mappings, "place", lambda *_: (str(path), 0))
    found = parts.parts_of(state)
    assert all(not part.file for part in found.values())
    into = torch.empty(3)
    found["first.weight"].read(4, into, parts.Files())
    assert torch.equal(into, model.first.weight.detach().reshape(-1)[4:7])


def test_a_file_that_is_cut_meanwhile_is_named(model, tmp_path):
    path = tmp_path / "a.pt"
    torch.save(state_of(model), path)
    layout = layout_of(model)
    vector, _ = stored_vector(model, layout, Source(path=str(path)))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(LandscapeError, match=r"a\.pt: has become shorter while it was read"):
        vector.read(0, torch.empty(layout.size))


def test_the_fingerprint_of_the_rest_is_of_names_types_and_values():
    base = {"a": torch.tensor([1.0, 2.0]), "n": torch.tensor(3)}
    same = {"n": torch.tensor(3), "a": torch.tensor([1.0, 2.0])}
    assert fingerprint_of_rest(base) == fingerprint_of_rest(same)
    for other in ({**base, "n": torch.tensor(4)}, {"b": base["a"], "n": base["n"]}, {"a": base["a"]}):
        assert fingerprint_of_rest(base) != fingerprint_of_rest(other)
    assert fingerprint_of_rest({}) == fingerprint_of_rest({})
