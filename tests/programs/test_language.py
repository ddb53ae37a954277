"""Language models from configurations: the loss of a plain loop, its units and perplexity, and the small studies."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import pytest
import torch
import yaml

from mpi_landscape.configuration import reading
from mpi_landscape.problem.datasets.table import build_splits
from mpi_landscape.storage.history.records import read_history
from mpi_landscape.storage.surface.reader import read_surface

transformers = pytest.importorskip(
    "transformers", minversion="5", reason="pip install 'mpi_landscape[language]'"
)
CONFIGS = Path(__file__).parents[2] / "configs" / "language"
POEM = "The cat sat on the mat.\nA dog ran.\nNobody knows why the birds sang at all.\nHe reads.\n" * 4
NETWORK = {"vocab_size": 258, "n_positions": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}


def program(name, *arguments, folder):
    done = subprocess.run(
        [sys.executable, "-m", name, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def configured(folder, **changes):
    configuration = {
        "model": {"name": "hub", "arguments": {"config": {"type": "gpt2", **NETWORK}}},
        "data": {
            "name": "text",
            "root": "poem.txt",
            "arguments": {"by": "line", "test": 0.25, "length": 64},
        },
        "loss": "output",
        "grid": {"alpha": [-1, 1, 3], "beta": [-1, 1, 2]},
        "output": "surface.h5",
        **changes,
    }
    (folder / "poem.txt").write_text(POEM)
    (folder / "mine.yaml").write_text(yaml.safe_dump(configuration))
    return folder / "mine.yaml"


def center_of(folder, split):
    """The mean over tokens and over lines, in a plain loop over the lines in float64."""
    configuration = reading.load(folder / "mine.yaml")
    torch.manual_seed(0)
    config = transformers.GPT2Config(**NETWORK)
    network = transformers.GPT2LMHeadModel(config).double().eval()
    section = replace(configuration.data, root=str(folder / "poem.txt"))
    data = build_splits(section, where="mine.yaml", folders=[])[split]
    total, tokens, means = 0.0, 0, []
    for index in range(len(data)):
        ids = data[index]["input_ids"][None]
        with torch.no_grad():
            loss = float(network(ids, labels=ids).loss)
        means.append(loss)
        total, tokens = total + loss * (ids.shape[1] - 1), tokens + ids.shape[1] - 1
    return total / tokens, sum(means) / len(means)


@pytest.mark.slow
def test_a_loss_per_token_is_that_of_a_plain_loop_and_has_a_perplexity(tmp_path):
    configured(tmp_path, grid={"alpha": [-1, 1, 3], "beta": [-0.5, 0.5, 3]})
    program("mpi_landscape.surface", "mine.yaml", folder=tmp_path)
    surface = read_surface(tmp_path / "surface.h5")
    for split in ("train", "test"):
        wanted, _ = center_of(tmp_path, split)
        assert surface.values[f"{split}_loss"][1, 1] == pytest.approx(wanted, rel=1e-6)
        assert surface.units[f"{split}_loss"] == "nats per token"
        found = surface.values[f"{split}_perplexity"]
        assert found[1, 1] == pytest.approx(2.718281828459045**wanted, rel=1e-5)
        assert surface.split_of(f"{split}_perplexity") == split
    assert "train_perplexity" in program("mpi_landscape.inspect", "surface.h5", folder=tmp_path)
    program("plotting", "surface.h5", "--kind", "heatmap", "--quantity", "train_perplexity", folder=tmp_path)
    assert (tmp_path / "surface_train_perplexity_heatmap.png").exists()


@pytest.mark.slow
def test_a_loss_per_sequence_is_the_mean_of_lines_and_has_no_perplexity(tmp_path):
    configured(
        tmp_path,
        loss={"name": "output", "arguments": {"per": "sequence"}},
        grid={"alpha": [-1, 1, 3], "beta": None},
        directions={"beta": None},
    )
    program("mpi_landscape.surface", "mine.yaml", folder=tmp_path)
    surface = read_surface(tmp_path / "surface.h5")
    _, wanted = center_of(tmp_path, "train")
    assert surface.values["train_loss"][1] == pytest.approx(wanted, rel=1e-6)
    assert surface.units["train_loss"] == "nats per example"
    assert "train_perplexity" not in surface.quantities


def test_a_vocabulary_that_is_too_small_ends_in_a_line(tmp_path):
    path = configured(tmp_path)
    path.write_text(path.read_text().replace("vocab_size: 258", "vocab_size: 100"))
    done = subprocess.run(
        [sys.executable, "-m", "mpi_landscape.surface", path],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert (
        "the tokenizer has 258 tokens, special ones too, and the network's vocab_size is 100" in done.stderr
    )
    assert "Traceback" not in done.stderr


# Small enough to be trained and computed in seconds: what is changed of a study, for training and surface.
TINY = {
    "gpt": {"data.arguments.size": 20_000, "training.epochs": 1},
    "vit": {"data.arguments": {"limit": 64}, "training.epochs": 1},
    "mnist1d": {"data.arguments": {"num_samples": 200}, "training.epochs": 1},
}


@pytest.mark.slow
@pytest.mark.parametrize("study", TINY)
def test_a_study_can_be_trained_and_computed(study, tmp_path):
    base = {"base": str(CONFIGS / f"{study}.yaml"), "grid": {"alpha": {"num": 3}, "beta": {"num": 3}}}
    for place, value in TINY[study].items():
        *path, last = place.split(".")
        section = base
        for each in path:
            section = section.setdefault(each, {})
        section[last] = value
    if "data" in base:
        base["data"]["name"] = reading.load(CONFIGS / f"{study}.yaml").data.name
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(base))
    program("mpi_landscape.train", "mine.yaml", folder=tmp_path)
    program("mpi_landscape.surface", "mine.yaml", folder=tmp_path)
    surface = read_surface(tmp_path / "runs" / "language" / study / "surface.h5")
    assert surface.progress == 1.0
    assert surface.values["train_loss"].shape == (3, 3)
    units = {"gpt": "nats per token"}.get(study, "nats per example")
    assert surface.units["train_loss"] == units
    history = Path(surface.path).with_name("history.h5")
    with h5py.File(history) as file:
        assert file["train_loss"].attrs["units"].decode() == units
    if study == "gpt":
        assert surface.attributes["title"] == read_history(history).attributes["title"] == "gpt2 on python"
