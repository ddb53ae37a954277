"""The engines of known networks are those of before: files hold them, and a landscape goes on with the same."""

import hashlib

import pytest
import torch

from mpi_landscape.configuration.sections.sources import ModelConfiguration
from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.choosing import choose_engine
from mpi_landscape.evaluation.engine.steps import USUAL
from mpi_landscape.evaluation.probe import probe_points
from mpi_landscape.loading.batches import Batch
from mpi_landscape.problem.networks.table import build_network
from tests.evaluation.test_engines import setting_of
from tests.exhaustive import rows

# Words of the engine, and the first digits of SHA-256 of its text, which names every layer.
FUSED = "normalisations folded, channels-last, convolutions fused with what follows"
RECORDED = {
    "resnet14": ("resnet14", f"15 {FUSED}", "5a28ef79"),
    "resnet20": ("resnet20", f"21 {FUSED}", "5e4fd128"),
    "resnet56": ("resnet56", f"57 {FUSED}", "ef7685ec"),
    "vgg9": ("vgg9", f"8 {FUSED}", "4b4ab33b"),
    "densenet121": ("densenet121", f"58 {FUSED}", "425c8b18"),
    "wrn56_2": ("wrn56_2", f"57 {FUSED}", "ef7685ec"),
    "linear": ("linear", "first layer (1) once per tile", "791c13d7"),
    "mlp": ("mlp", "first layer (1) once per tile", "791c13d7"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "words", "digits"), rows(RECORDED, "resnet14", "linear"))
def test_a_known_network_gets_the_engine_of_before(name, words, digits):
    torch.manual_seed(0)
    model = build_network(ModelConfiguration(name=name), where="test", folders=[])
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    _settle(model, images)
    batch = Batch(data=[images, torch.arange(8)], valid=8)
    with exact_arithmetic():
        engine, dropped = choose_engine(
            setting_of(model, moved=("weight",)),
            batch,
            probe_points([(-1.0, 1.0)] * 2),
            dtype=torch.float32,
            steps=USUAL,
        )
    assert (engine.words(), dropped) == (words, [])
    assert hashlib.sha256(engine.text().encode()).hexdigest()[:8] == digits


def _settle(model, images):
    """Statistics of the data, without which a deep network that is not trained overflows."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
    model.train()
    with torch.no_grad():
        model(images)
    model.eval()
