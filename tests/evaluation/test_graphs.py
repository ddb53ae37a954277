"""Recorded passes: the logic with a recorder that runs on a CPU, the real one on a GPU."""

import pytest
import torch
import torch.nn.functional as F

from mpi_landscape.evaluation.choosing import choose_engine
from mpi_landscape.evaluation.engine.description import PLAIN
from mpi_landscape.evaluation.engine.graphs import GRAPHED, Graphs
from mpi_landscape.evaluation.engine.steps import engine_of
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.evaluation.probe import probe_points
from mpi_landscape.loading.resident import make_resident
from tests.evaluation.test_engines import POINTS, chosen, cross_entropy, setting_of
from tests.evaluation.zoo import examples_of, network_of


def recorder(recorded):
    """What a GPU's graph does: the work is done again on what lies in its inputs, into the same result."""

    def record(work):
        recorded.append(work)
        result = work()
        result.fill_(float("nan"))  # recording computes nothing
        return lambda: result.copy_(work()), result

    return record


def work(data, valid):
    return (data["x"][:valid] * data["y"][0][:valid]).sum()[None].double()


def batch(seed, size=4):
    generator = torch.Generator().manual_seed(seed)
    return {"x": torch.randn(size, 3, generator=generator), "y": [torch.randn(size, 1, generator=generator)]}


def test_a_replayed_pass_computes_with_the_batch_that_it_is_given():
    recorded = []
    graphs = Graphs(work, recorder(recorded))
    results = [graphs(batch(seed), 4) for seed in range(3)]
    assert results == [work(batch(seed), 4) for seed in range(3)]
    assert len(recorded) == 1, "results are tensors of their own, and one recording serves all"


def test_every_kind_of_batch_is_recorded_once():
    recorded = []
    graphs = Graphs(work, recorder(recorded))
    for seed, size, valid in [(0, 4, 4), (1, 4, 3), (2, 5, 4), (3, 4, 4), (4, 4, 3)]:
        assert graphs(batch(seed, size), valid) == work(batch(seed, size), valid)
    assert len(recorded) == 3


def test_the_caller_s_batch_is_never_written_to():
    graphs = Graphs(work, recorder([]))
    first, second = batch(0), batch(1)
    graphs(first, 4)
    graphs(second, 4)
    assert torch.equal(first["x"], batch(0)["x"])


def test_texts_in_a_batch_cannot_be_recorded():
    with pytest.raises(TypeError, match="texts"):
        Graphs(work, recorder([]))({**batch(0), "name": ["a", "b", "c", "d"]}, 4)


def test_on_a_cpu_there_is_nothing_to_record():
    engine, dropped = chosen(setting_of(network_of("residual")), "residual", ("graphed",))
    assert (engine, dropped) == (PLAIN, [])


def test_an_engine_without_recorded_passes_is_written_as_before_there_were_any():
    assert "graphed" not in PLAIN.text()
    assert engine_of(PLAIN.text()) == PLAIN


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("name", ["residual", "dense", "mobile", "unnormalised perceptron"])
def test_on_a_gpu_recorded_passes_give_the_bits_of_launched_ones(name):
    device = torch.device("cuda")
    setting = setting_of(network_of(name))
    object.__setattr__(setting, "device", device)
    batches = make_resident(
        "train", examples_of(name), batch_size=8, device=device, dtype=torch.float32
    ).batches
    engine, dropped = choose_engine(
        setting,
        batches[0],
        probe_points([(-1.0, 1.5), (-0.75, 0.5)]),
        dtype=torch.float32,
        steps=("folded", "channels_last", "graphed"),
    )
    assert engine.value(GRAPHED), dropped
    launched = engine_of(engine.text().replace('"graphed": true', '"graphed": false'))
    assert setting.sums(engine, torch.float32, batches, POINTS).tobytes() == (
        setting.sums(launched, torch.float32, batches, POINTS).tobytes()
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a GPU")
def test_on_a_gpu_a_loss_that_looks_at_a_value_is_not_recorded():
    def curious(model, batch):
        losses = F.cross_entropy(model(batch[0]), batch[1], reduction="none")
        return losses if losses.sum().item() > -1 else 2 * losses

    setting = setting_of(network_of("residual"), loss=curious)
    object.__setattr__(setting, "device", torch.device("cuda"))
    batches = make_resident(
        "train", examples_of("residual"), batch_size=8, device=setting.device, dtype=torch.float32
    ).batches
    stream = torch.cuda.current_stream()
    engine, dropped = choose_engine(
        setting, batches[0], [(0.0, 0.0)], dtype=torch.float32, steps=("graphed",)
    )
    # torch leaves both as they were in the middle of the recording.
    assert torch.cuda.current_stream() == stream
    assert torch.rand(3, device="cuda").isfinite().all()
    assert engine == PLAIN
    assert "graphed dropped" in dropped[0]


def test_an_evaluator_asks_for_recorded_passes_where_its_engine_says_so(monkeypatch):
    from mpi_landscape.evaluation.engine import graphs as graphs_module

    recorded = []
    monkeypatch.setattr(graphs_module, "record_on_gpu", recorder(recorded))
    setting = setting_of(network_of("residual"))
    graphed = engine_of(PLAIN.text().replace("}", ', "graphed": true}'))
    batches = make_resident(
        "train", examples_of("residual"), batch_size=8, device=setting.device, dtype=torch.float32
    ).batches
    with Evaluator(
        setting.model, cross_entropy, setting.layout, setting.center, setting.directions,
        device=setting.device, engine=graphed,
    ) as evaluator:  # fmt: skip
        found = evaluator.tile([batches], POINTS)
    assert recorded
    assert found.tobytes() == setting.sums(PLAIN, torch.float32, batches, POINTS).tobytes()
