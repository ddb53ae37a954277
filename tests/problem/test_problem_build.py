import sys

import pytest
import torch

from mpi_landscape.configuration.reading import load_text
from mpi_landscape.problem.build import build

pytest.importorskip("sklearn", reason="pip install scikit-learn")

DIGITS = "model: {name: mlp, arguments: {input_size: [1, 8, 8], hidden: [6]}}\ndata: digits\n"


def built(text):
    return build(load_text(text, where="mine.yaml"), where="mine.yaml", folders=[])


def test_a_problem_is_ready_to_be_evaluated():
    problem = built(DIGITS)
    assert {parameter.dtype for parameter in problem.model.parameters()} == {torch.float32}
    assert list(problem.splits) == ["train", "test"]


def test_a_network_keeps_its_precision_and_its_mode_until_it_has_its_parameters(tmp_path):
    """What eval() merges, it must merge of the checkpoint's."""
    name = "b" + "".join(character for character in tmp_path.name if character.isalnum())
    (tmp_path / f"{name}.py").write_text(
        "from torch import nn\n"
        "def net(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double().train()\n"
    )
    configuration = load_text(f"model: {{target: '{name}:net'}}\ndata: digits", where="x")
    problem = build(configuration, where="x", folders=[tmp_path])
    sys.modules.pop(name)
    assert {parameter.dtype for parameter in problem.model.parameters()} == {torch.float64}
    assert all(module.training for module in problem.model.modules())


def test_the_checkpoint_is_left_to_the_one_rank_that_reads_it():
    built(DIGITS.replace("{name: mlp", "{name: mlp, checkpoint: absent.pt"))
