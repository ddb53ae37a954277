"""How much memory an evaluation takes beside its plane, and that it gives all of it back at its end."""

import gc
import weakref
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from mpi_landscape.evaluation import evaluator as evaluators
from mpi_landscape.evaluation import probe, vectors
from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.engine.channels_last import reorder
from mpi_landscape.evaluation.engine.description import PLAIN
from mpi_landscape.evaluation.engine.folding import fold_vectors
from mpi_landscape.evaluation.engine.steps import USUAL
from mpi_landscape.evaluation.replica import sharing_copy
from mpi_landscape.geometry.layout import empty_vector, layout_of
from tests.evaluation.test_engines import CPU, PROBES, batches_of, chosen, setting_of
from tests.evaluation.zoo import NETWORKS, network_of


@pytest.fixture(autouse=True)
def exact():
    with exact_arithmetic():
        yield


@contextmanager
def no_collector():
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("name", "most", "reason"),
    [
        ("residual", 4, "a folded network has a plane of its own, and a point"),
        ("perceptron", 1, "a point, or a network elsewhere"),
        ("linear", 1, "a plain network"),
    ],
)
def test_a_trial_of_engines_holds_no_more_vectors_than_its_largest_evaluator(name, most, reason, monkeypatch):
    setting, alive, counts = setting_of(network_of(name)), weakref.WeakSet(), []

    def counted(*arguments):
        vector = empty_vector(*arguments)
        alive.add(vector)
        counts.append(sum(each.itemsize for each in alive) / 4)
        return vector

    for module in (evaluators, probe, vectors):
        monkeypatch.setattr(module, "empty_vector", counted)
    with no_collector():
        chosen(setting, name, USUAL)
        assert max(counts) == most, reason
        assert not alive


@pytest.mark.parametrize("name", NETWORKS)
def test_an_evaluator_that_is_closed_keeps_no_point(name):
    setting = setting_of(network_of(name))
    engine, _ = chosen(setting, name, USUAL)
    with (
        no_collector(),
        evaluators.Evaluator(
            setting.model, setting.loss, setting.layout, setting.center, setting.directions,
            device=CPU, threads=2, engine=engine,
        ) as evaluator,
    ):  # fmt: skip
        evaluator.tile([batches_of(name)], PROBES)
        kept = list(evaluator.network.parameters())
    assert sum(parameter.numel() for parameter in kept) == 0


def test_a_sharing_copy_has_the_parameters_in_place_and_buffers_of_its_own():
    model = network_of("residual")
    copied = sharing_copy(model)
    pairs = [*zip(model.parameters(), copied.parameters(), strict=True)]
    assert all(one is not other and one.data_ptr() == other.data_ptr() for one, other in pairs)
    assert all(
        one.data_ptr() != other.data_ptr()
        for one, other in zip(model.buffers(), copied.buffers(), strict=True)
    )
    copied.double().requires_grad_(False)
    assert all(
        parameter.dtype == torch.float32 and parameter.requires_grad for parameter in model.parameters()
    )


@pytest.mark.parametrize("name", ["residual", "perceptron", "tied"])
def test_a_network_at_a_point_in_float64_is_what_an_evaluator_of_float64_follows(name):
    setting, data = setting_of(network_of(name)), batches_of(name, dtype=torch.float64)[:1]
    for point in PROBES:
        losses = setting.loss(setting.network_at(point, torch.float64), data[0].data)["loss"]
        expected = setting.sums(PLAIN, torch.float64, data, [point])[0, 0]
        np.testing.assert_allclose(losses[: data[0].valid].sum().item(), expected, rtol=1e-13)


def test_vectors_are_rewritten_in_blocks_with_the_bits_of_whole_tensors(monkeypatch):
    model = nn.Sequential(nn.Conv2d(5, 7, (3, 2)), nn.BatchNorm2d(7), nn.Conv2d(7, 6, 1, bias=False)).eval()
    model[1].weight.data.uniform_(0.5, 2)
    layout = layout_of(model)
    results = []
    for block in (2**30, 64):
        monkeypatch.setattr(vectors, "_BLOCK", block)
        center, direction = torch.randn(2, layout.size, generator=torch.Generator().manual_seed(1))
        fold_vectors([("0", "1")], model, center, [direction], layout)
        reorder([center, direction], layout, ["0.weight", "2.weight"])
        results.append(torch.stack([center, direction]))
    assert torch.equal(*results)
