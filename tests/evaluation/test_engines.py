"""Every engine on every kind of network, against float64 and the plain network."""

import copy
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.choosing import choose_engine
from mpi_landscape.evaluation.engine.description import PLAIN, Engine
from mpi_landscape.evaluation.engine.folding import FOLDED
from mpi_landscape.evaluation.engine.fusing import FusedConvolution
from mpi_landscape.evaluation.engine.steps import STEPS, USUAL, engine_of, steps_of
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.evaluation.probe import Setting, probe_points
from mpi_landscape.geometry.directions import random_direction
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.geometry.normalization import normalize
from mpi_landscape.loading.resident import make_resident
from tests.evaluation.zoo import NETWORKS, examples_of, network_of

CPU = torch.device("cpu")
POINTS = [(alpha, beta) for alpha in (-1.0, 0.25, 0.0, 1.5) for beta in (0.0, -0.75, 0.5)]
PROBES = probe_points([(-1.0, 1.5), (-0.75, 0.5)])


@pytest.fixture(autouse=True)
def exact():
    with exact_arithmetic():
        yield


def cross_entropy(model, batch):
    outputs = model(batch[0])
    return {
        "loss": F.cross_entropy(outputs, batch[1], reduction="none"),
        "correct": outputs.argmax(dim=1) == batch[1],
    }


def setting_of(model, *, moved=("weight", "bias"), loss=cross_entropy):
    """The plane of two filter-normalised directions; by default they leave normalisations alone."""
    layout = layout_of(model)
    center = torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])
    directions = []
    for seed in (1, 2):
        vector = normalize(random_direction(layout, seed=seed), center, layout, how="filter")
        for entry in layout.entries:
            if entry.kind not in moved:
                vector[entry.offset : entry.stop] = 0
        directions.append(0.5 * vector)
    return Setting(model=model, loss=loss, layout=layout, center=center, directions=directions, device=CPU)


def batches_of(name, batch_size=8, dtype=torch.float32):
    return make_resident("train", examples_of(name), batch_size=batch_size, device=CPU, dtype=dtype).batches


def chosen(setting, name, steps, dtype=torch.float32):
    return choose_engine(setting, batches_of(name, dtype=dtype)[0], PROBES, dtype=dtype, steps=steps)


def float64_sums(setting, name):
    """Loss sum and correct count at every point: tensors set by hand, all examples at once."""
    inputs = torch.stack([image for image, _ in examples_of(name)]).double()
    labels = torch.tensor([label for _, label in examples_of(name)])
    rows = []
    for alpha, beta in POINTS:
        network = copy.deepcopy(setting.model).double().eval()
        vector = (
            setting.center.double()
            + alpha * setting.directions[0].double()
            + beta * setting.directions[1].double()
        )
        start = 0
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.copy_(vector[start : start + parameter.numel()].view_as(parameter))
                start += parameter.numel()
            result = cross_entropy(network, [inputs, labels])
        rows.append([result["loss"].sum().item(), result["correct"].sum().item(), len(labels)])
    return np.array(rows)


# What each network must get, so that a step that quietly does nothing fails.
NUM_FOLDED = {
    "residual": 9,
    "residual with padding": 7,
    "without shortcuts": 7,
    "vgg": 8,
    "dense": 58,
    "perceptron": 0,
    "linear": 0,
    "normalised perceptron": 1,
    "perceptron, plain norms": 1,
    "unnormalised perceptron": 0,
    "mobile": 2,
    "viewing": 1,
    "branching": 0,
    "tied": 0,
    "spread": 0,
    "aliasing": 0,
}
ENGINES = [
    (("folded",), 1e-5, "the same numbers in another order"),
    (("channels_last",), 1e-5, "another order of memory"),
    (("channels_last", "fused"), 1e-5, "one kernel for two"),
    (("first_layer",), 1e-5, "a sum of three products for a product"),
    (USUAL, 2e-5, "all that is tried by itself"),
]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("steps", "tolerance", "reason"), ENGINES, ids=lambda value: str(value)[:40])
def test_every_engine_gives_the_losses_of_float64_on_every_kind_of_network(name, steps, tolerance, reason):
    setting = setting_of(network_of(name))
    engine, _ = chosen(setting, name, steps)
    sums = setting.sums(engine, torch.float32, batches_of(name), POINTS)
    expected = float64_sums(setting, name)
    plain = setting.sums(PLAIN, torch.float32, batches_of(name), POINTS)
    # Deep networks without shortcuts round more: what the plain network is off, an engine may be off too.
    slack = 4 * np.abs(plain[:, 0] - expected[:, 0])
    assert (np.abs(sums[:, 0] - expected[:, 0]) <= tolerance * np.abs(expected[:, 0]) + slack).all(), reason
    assert (np.abs(sums[:, 1] - expected[:, 1]) <= 1).all()
    assert sums[:, 2].tolist() == expected[:, 2].tolist()


@pytest.mark.parametrize("name", NETWORKS)
def test_normalisations_that_can_be_folded_are(name):
    engine, _ = chosen(setting_of(network_of(name)), name, ("folded",))
    assert len(engine.value(FOLDED)) == NUM_FOLDED[name]


@pytest.mark.parametrize(
    ("name", "step", "applies"),
    [
        ("residual", "channels_last", True),
        ("viewing", "channels_last", False),
        ("perceptron", "channels_last", False),
        ("residual", "fused", True),
        ("branching", "fused", False),
        ("mobile", "fused", True),
        ("perceptron", "first_layer", True),
        ("normalised perceptron", "first_layer", True),
        ("residual", "first_layer", False),
    ],
)
def test_a_step_is_taken_where_it_can_be_and_dropped_where_it_cannot(name, step, applies):
    steps = ("channels_last", "fused") if step == "fused" else (step,)
    engine, dropped = chosen(setting_of(network_of(name)), name, steps)
    assert bool(engine.value(STEPS[step])) == applies, dropped


def test_a_dropped_step_says_why():
    _, dropped = chosen(setting_of(network_of("branching")), "branching", ("channels_last", "fused"))
    assert len(dropped) == 1
    assert dropped[0].startswith("fused dropped: ")
    assert "\n" not in dropped[0]


def test_a_normalisation_whose_scale_moves_is_not_folded_and_one_whose_bias_moves_is():
    model = network_of("residual")
    everything = setting_of(model, moved=("weight", "bias", "norm"))
    assert chosen(everything, "residual", ("folded",))[0].value(FOLDED) == ()
    shifted = setting_of(model)
    for entry in shifted.layout.entries:
        if entry.kind == "norm" and entry.name.endswith("bias"):
            for seed, direction in enumerate(shifted.directions):
                torch.manual_seed(seed)
                direction[entry.offset : entry.stop] = torch.randn(entry.size)
    engine, _ = chosen(shifted, "residual", ("folded",))
    assert len(engine.value(FOLDED)) == NUM_FOLDED["residual"]
    sums = shifted.sums(engine, torch.float32, batches_of("residual"), POINTS)
    assert sums[:, 0] == pytest.approx(float64_sums(shifted, "residual")[:, 0], rel=1e-5)


def test_statistics_that_move_are_not_folded():
    model = network_of("residual")
    layout = layout_of(model, normalization_buffers=True)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    center = layout.flatten(tensors, where="test")
    setting = Setting(
        model=model,
        loss=cross_entropy,
        layout=layout,
        center=center,
        directions=[torch.zeros_like(center)],
        device=CPU,
    )
    assert (
        choose_engine(setting, batches_of("residual")[0], [(0.0,)], dtype=torch.float32, steps=("folded",))[0]
        == PLAIN
    )


def test_a_wrong_engine_is_seen(monkeypatch):
    from mpi_landscape.evaluation.engine import folding

    right = folding.fold_vectors

    def wrong(pairs, network, center, directions, layout):
        right(pairs, network, center, directions, layout)
        if pairs:
            directions[0].mul_(1.01)

    monkeypatch.setattr(folding, "fold_vectors", wrong)
    engine, dropped = chosen(setting_of(network_of("residual")), "residual", ("folded",))
    assert engine == PLAIN
    assert "the loss of an example is" in dropped[0]


@pytest.mark.parametrize("name", ["residual", "vgg", "perceptron", "mobile", "linear"])
def test_an_engine_gives_the_same_bits_on_any_number_of_threads_and_in_any_tiles(name):
    setting = setting_of(network_of(name))
    for steps in (USUAL, ("folded",)):
        engine, _ = chosen(setting, name, steps)
        expected = setting.sums(engine, torch.float32, batches_of(name, 4), POINTS)
        for threads, at_once in [(2, 1), (3, 2), (4, 4), (5, 2)]:
            with Evaluator(
                setting.model, cross_entropy, setting.layout, setting.center, setting.directions,
                device=CPU, threads=threads, points_at_once=at_once, engine=engine,
            ) as evaluator:  # fmt: skip
                batches = batches_of(name, 4)
                cut = [batches[:2], batches[2:3], batches[3:]]
                assert evaluator.tile(cut, POINTS).tobytes() == expected.tobytes()
                whole = [evaluator.tile([batches], POINTS[k : k + 4]) for k in range(0, len(POINTS), 4)]
                assert np.concatenate(whole).tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["residual", "dense", "normalised perceptron", "mobile"])
def test_float64_engines_are_exact_to_float64(name):
    setting = setting_of(network_of(name))
    engine, _ = chosen(setting, name, USUAL, dtype=torch.float64)
    assert engine != PLAIN
    sums = setting.sums(engine, torch.float64, batches_of(name, dtype=torch.float64), POINTS)
    assert sums[:, 0] == pytest.approx(float64_sums(setting, name)[:, 0], rel=1e-11)


@pytest.mark.parametrize("name", NETWORKS)
def test_bfloat16_is_near_and_not_the_same(name):
    setting = setting_of(network_of(name))
    engine, _ = chosen(setting, name, USUAL)
    plain = setting.sums(PLAIN, torch.float32, batches_of(name), POINTS)[:, 0]
    low = setting.sums(engine, torch.bfloat16, batches_of(name), POINTS)[:, 0]
    assert low == pytest.approx(plain, rel=0.05)
    assert not np.array_equal(low, plain)


def test_the_caller_s_vectors_and_network_stay_as_they_are():
    model = network_of("residual")
    setting = setting_of(model)
    before = [vector.clone() for vector in (setting.center, *setting.directions)]
    state = copy.deepcopy(model.state_dict())
    engine, _ = chosen(setting, "residual", USUAL)
    setting.sums(engine, torch.float32, batches_of("residual"), POINTS)
    for vector, kept in zip((setting.center, *setting.directions), before, strict=True):
        assert torch.equal(vector, kept)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())
    assert all(type(module) is not nn.Identity for module in model.modules())


def engine_with(**values):
    """An engine by the names of its steps, in the order in which they are applied."""
    return Engine(taken=tuple((step, values[name]) for name, step in STEPS.items() if name in values))


def test_an_engine_is_read_back_from_its_text():
    engine = engine_with(folded=(("a", "b"),), channels_last=True, first_layer=("c",))
    assert engine_of(engine.text()) == engine
    assert engine_of(PLAIN.text()) == PLAIN
    assert PLAIN.words() == "the plain network"
    assert engine_with(fused=True).words() != PLAIN.words()


# As files of before there were steps in files of their own have it.
WRITTEN = [
    (
        PLAIN,
        '{"channels_last": false, "compiled": false, "first_layer": [], "folded": [], "fused": false, '
        '"points_per_pass": 1}',
    ),
    (
        engine_with(folded=(("conv1", "bn1"), ("a.b", "a.c")), channels_last=True, fused=True, compiled=True),
        '{"channels_last": true, "compiled": true, "first_layer": [], "folded": [["conv1", "bn1"], ["a.b", "a.c"]], '
        '"fused": true, "points_per_pass": 1}',
    ),
    (
        engine_with(graphed=True, first_layer=("0", "head")),
        '{"channels_last": false, "compiled": false, "first_layer": ["0", "head"], "folded": [], "fused": false, '
        '"graphed": true, "points_per_pass": 1}',
    ),
]


@pytest.mark.parametrize(("engine", "text"), WRITTEN, ids=["plain", "convolutions", "graphs"])
def test_an_engine_is_written_as_in_files_of_before(engine, text):
    assert engine.text() == text
    assert engine_of(text) == engine
    assert engine_of(text.replace(', "points_per_pass": 1', "")) == engine, "without the step that is gone"


def test_an_engine_says_in_words_what_it_does():
    everything = engine_with(
        folded=(("a", "b"),),
        channels_last=True,
        fused=True,
        compiled=True,
        graphed=True,
        first_layer=("c", "d"),
        packed=("e",),
    )
    assert everything.words() == (
        "1 normalisations folded, channels-last, convolutions fused with what follows, compiled, "
        "passes replayed as CUDA graphs, first layer (c, d) once per tile, "
        "1 linear layers of packed weights"
    )
    assert everything.label().startswith(everything.words() + " (")
    assert everything.label() != engine_with(channels_last=True).label()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        '{"folded": 3}',
        '{"folded": [], "first_layer": [], "speed": 9}',
        PLAIN.text().replace("[]", "3"),
        PLAIN.text().replace("}", ', "speed": 9}'),
        PLAIN.text().replace('"points_per_pass": 1', '"points_per_pass": 4'),
    ],
)
def test_a_text_that_is_no_engine_is_refused(text):
    from mpi_landscape.errors import LandscapeError

    with pytest.raises(LandscapeError, match="no engine"):
        engine_of(text)


def test_steps_are_asked_for_by_name():
    assert steps_of("auto") == USUAL
    assert steps_of("plain") == ()
    assert set(USUAL) - set(steps_of("auto", plain_gpu=True)) == {"channels_last"}
    assert "channels_last" in steps_of(["channels_last"], plain_gpu=True), "asked for"
    assert set(USUAL) - set(steps_of("auto", large=True)) == {"packed"}
    assert "packed" in steps_of(["packed"], large=True), "asked for"
    assert steps_of(["fused", "folded"]) == ("folded", "fused"), "in the order in which they are applied"
    assert set(USUAL) < set(STEPS)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler: apt install g++")
@pytest.mark.parametrize("name", ["residual", "branching", "perceptron"])
def test_a_compiled_network_gives_the_losses_of_float64(name):
    setting = setting_of(network_of(name))
    engine, dropped = chosen(setting, name, ("folded", "compiled"))
    assert engine.value(STEPS["compiled"]), dropped
    sums = setting.sums(engine, torch.float32, batches_of(name), POINTS)
    assert sums[:, 0] == pytest.approx(float64_sums(setting, name)[:, 0], rel=1e-5)


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="needs a CPU that oneDNN has bfloat16 for"
)
@pytest.mark.parametrize("onto", [False, True])
@pytest.mark.parametrize("size", [8, 1])
@pytest.mark.parametrize(
    ("activation", "after"),
    [("none", torch.clone), ("relu", torch.relu), ("swish", torch.nn.functional.silu)],
)
@pytest.mark.parametrize(("groups", "kernel"), [(1, 3), (1, 1), (4, 3), (8, 3), (8, 1)])
def test_a_fused_sum_in_bfloat16_is_the_sum_also_of_convolutions_of_several_groups(
    groups, kernel, activation, after, size, onto
):
    draw = torch.Generator().manual_seed(3)
    convolution = torch.nn.Conv2d(8, 8, kernel, padding=kernel // 2, groups=groups)
    images, other = (torch.randn(3, 8, size, size, generator=draw) for _ in range(2))
    with torch.no_grad():
        # Of the numbers that are really computed with.
        convolution.bfloat16().float()
        images, other = images.bfloat16(), other.bfloat16()
        wanted = after(convolution(images.float()) + other.float())
        fused = FusedConvolution(convolution.bfloat16(), activation, [], onto=onto)
        fused.to(memory_format=torch.channels_last)
        found = fused(
            images.contiguous(memory_format=torch.channels_last),
            other.contiguous(memory_format=torch.channels_last),
        )
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=2e-2, atol=3e-2)
