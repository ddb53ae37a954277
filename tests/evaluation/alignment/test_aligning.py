"""One network next to another: known permutations are found again, and a permuted network computes what it did."""

import copy
import itertools
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.alignment.aligning import aligned, symmetries_of
from mpi_landscape.evaluation.alignment.symmetries import Factor, Symmetries, UnitSet
from mpi_landscape.loading.results import losses_of
from mpi_landscape.problem.networks.convolutional import cnn, vgg9
from mpi_landscape.problem.networks.densenet import densenet
from mpi_landscape.problem.networks.perceptron import mlp
from mpi_landscape.problem.networks.resnet import resnet
from tests.evaluation.random_blocks import Block
from tests.evaluation.random_networks import problem_of
from tests.exhaustive import rows

SIZE = {"input_size": (1, 8, 8), "num_classes": 10}


def digits(count, start=0):
    data = load_digits()
    images = torch.from_numpy(data.images[start : start + count]).float()[:, None] / 16
    return images, torch.from_numpy(data.target[start : start + count])


def loss(network, batch):
    images, labels = batch
    dtype = next(network.parameters()).dtype
    return F.cross_entropy(network(images.to(dtype)), labels, reduction="none")


def _without_norms(network):
    """The same network whose convolutions have shifts instead."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.Conv2d):
                new = nn.Conv2d(
                    child.in_channels, child.out_channels, child.kernel_size, child.stride, child.padding
                )
                setattr(module, name, new)
    return network


def _perceptron(*, norm):
    layers = [nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32) if norm else nn.Identity(), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(32, 24), nn.PReLU(24), nn.Linear(24, 10))


def _flattened():
    first = [nn.Conv2d(1, 12, 3), nn.ReLU(), nn.Conv2d(12, 16, 3), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*first, nn.Linear(64, 20), nn.GELU(), nn.Linear(20, 10))


def _mobile():
    def block(given, made, stride):
        return [
            nn.Conv2d(given, given, 3, stride, 1, groups=given, bias=False), nn.BatchNorm2d(given), nn.ReLU6(),
            nn.Conv2d(given, made, 1, bias=False), nn.BatchNorm2d(made), nn.Hardswish(),
        ]  # fmt: skip

    first = [nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.SiLU()]
    last = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 10)]
    return nn.Sequential(*first, *block(12, 16, 2), *block(16, 20, 1), *last)


def _by_functions():
    def forward(s, x):
        hidden = torch.relu(F.conv2d(x, s.kernel, s.shift, padding=1)).mean(3)
        hidden = torch.einsum("nch,chd->nd", hidden, s.mix).tanh()
        return F.linear(torch.sigmoid(hidden @ s.wide) * hidden.mean(1, keepdim=True), s.last)

    shapes = {"kernel": (9, 1, 3, 3), "shift": (9,), "mix": (9, 8, 14), "wide": (14, 21), "last": (10, 21)}
    return Block(forward, **{name: nn.Parameter(torch.randn(shape) / 3) for name, shape in shapes.items()})


def _transformer():
    def forward(s, x):
        tokens = s.embed(x[:, 0]) + s.positions
        return s.last(s.blocks(tokens).mean(1))

    layer = nn.TransformerEncoderLayer(16, 4, 40, batch_first=True, activation="gelu", norm_first=True)
    return Block(
        forward,
        embed=nn.Linear(8, 16),
        positions=nn.Parameter(torch.randn(8, 16)),
        blocks=nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        last=nn.Linear(16, 10),
    )


def _attention():
    """Heads of which nothing but the projections within them tells which is which."""

    def forward(s, x):
        tokens = x[:, 0].repeat(1, 1, 2)
        return s.last(s.attention(tokens, tokens, tokens, need_weights=False)[0].mean(1))

    attention = nn.MultiheadAttention(16, 4, batch_first=True, bias=False)
    return Block(forward, attention=attention, last=nn.Linear(16, 10))


def _tied_autoencoder():
    def forward(s, x):
        code = torch.relu(s.encode(x.flatten(1)))
        return s.last(F.linear(code, s.encode.weight.t()))

    return Block(forward, encode=nn.Linear(64, 30), last=nn.Linear(64, 10))


def _recurrent():
    return Block(
        lambda s, x: s.last(s.cells(x[:, 0])[0][:, -1]),
        cells=nn.LSTM(8, 14, num_layers=2, batch_first=True, bidirectional=True),
        last=nn.Linear(28, 10),
    )


NETWORKS = {
    "perceptron": lambda: _perceptron(norm=False),
    "perceptron with normalization": lambda: _perceptron(norm=True),
    "flattened convolutions": _flattened,
    "convolutions with identities": lambda: cnn(width=8, blocks=2, **SIZE),
    "VGG-9": lambda: vgg9(width=6, **SIZE),
    "ResNet-14, projections": lambda: resnet(depth=14, width=6, **SIZE),
    "ResNet-20, padding": lambda: resnet(depth=20, width=4, shortcut="padding", **SIZE),
    "ResNet-14, no shortcuts": lambda: resnet(depth=14, width=6, shortcut="none", **SIZE),
    "ResNet-14, no normalization": lambda: _without_norms(resnet(depth=14, width=6, **SIZE)),
    "ResNet-20, padding, no normalization": lambda: _without_norms(resnet(depth=20, width=4, shortcut="padding", **SIZE)),
    "DenseNet": lambda: densenet(depth=121, growth=2, **SIZE),
    "depthwise": _mobile,
    "functions": _by_functions,
    "transformer": _transformer,
    "attention": _attention,
    "tied autoencoder": _tied_autoencoder,
    "recurrent": _recurrent,
}  # fmt: skip
DAILY = [name for name in NETWORKS if name not in ("DenseNet", "ResNet-20, padding, no normalization")]


def made(name, seed=0):
    """A network with numbers as after a training: statistics, scales and shifts of which no two are alike."""
    torch.manual_seed(seed)
    network = NETWORKS[name]()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(std=0.3)
    return network.eval()


def shuffled(symmetries, state, seed):
    generator = torch.Generator().manual_seed(seed)
    order = [torch.randperm(each.size, generator=generator) for each in symmetries.sets]
    return order, symmetries.permuted(state, order)


@pytest.mark.parametrize("name", rows({name: (name,) for name in NETWORKS}, *DAILY))
def test_a_known_permutation_is_found_again(name):
    network, batch = made(name), digits(8)
    symmetries = symmetries_of(network, loss, batch)
    state = copy.deepcopy(network.state_dict())
    order, moved = shuffled(symmetries, state, seed=1)
    found = aligned(network, moved, symmetries, loss, batch, seed=2)
    assert found.distance_before > 1
    assert found.distance_after == 0
    assert all(torch.equal(tensor, state[key]) for key, tensor in found.state.items())
    assert all(
        torch.equal(there[back], torch.arange(len(back)))
        for there, back in zip(order, found.permutations, strict=True)
    )


@pytest.mark.parametrize("name", rows({name: (name,) for name in NETWORKS}, *DAILY))
def test_another_network_comes_nearer_and_computes_what_it_did(name):
    first, second = made(name, seed=1), made(name, seed=2)
    symmetries = symmetries_of(first, loss, digits(8))
    before = copy.deepcopy(first.state_dict())
    found = aligned(first, second.state_dict(), symmetries, loss, digits(8), seed=0)
    assert all(torch.equal(tensor, before[key]) for key, tensor in first.state_dict().items())
    images, _ = digits(300, start=500)
    with torch.no_grad():
        wanted = second(images)
        second.load_state_dict(found.state)
        torch.testing.assert_close(second(images), wanted, rtol=1e-5, atol=1e-5)
    assert 0 < found.distance_after < found.distance_before
    here, there = ({key: each.double() for key, each in of.items()} for of in (before, found.state))
    names = {key for key, _ in first.named_parameters()} & symmetries.orders.keys()
    wanted = sum(((here[key] - there[key]) ** 2).sum() for key in names) ** 0.5
    assert found.distance_after == pytest.approx(float(wanted), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_a_tiny_layer_is_matched_as_the_best_of_all_its_orders(seed):
    torch.manual_seed(seed)
    first, second = (
        nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.Tanh(), nn.Linear(4, 10)) for _ in range(2)
    )
    symmetries = symmetries_of(first, loss, digits(8))
    here, there = ({key: each.detach() for key, each in of.named_parameters()} for of in (first, second))

    def apart(order):
        moved = {"1.weight": there["1.weight"][order], "1.bias": there["1.bias"][order]}
        moved |= {"3.weight": there["3.weight"][:, order], "3.bias": there["3.bias"]}
        # The last shift stays where it is and does not count.
        return (
            sum((here[key].double() - moved[key].double()).square().sum() for key in here if key != "3.bias")
            ** 0.5
        )

    best = min((apart(list(order)), order) for order in itertools.permutations(range(4)))
    found = aligned(first, there, symmetries, loss, digits(8), seed=seed)
    assert found.distance_after == pytest.approx(float(best[0]), rel=1e-12)
    assert tuple(found.permutations[0].tolist()) == best[1]
    assert found.distance_before == pytest.approx(float(apart([0, 1, 2, 3])), rel=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_two_tiny_layers_are_matched_no_worse_than_one_after_the_other_can(seed):
    """No single set has a better order while the other stays, by trying all of them."""
    torch.manual_seed(seed)
    first, second = (mlp(hidden=(4, 3), **SIZE) for _ in range(2))
    symmetries = symmetries_of(first, loss, digits(8))
    found = aligned(first, second.state_dict(), symmetries, loss, digits(8), seed=seed)
    here = first.state_dict()
    for number, each in enumerate(symmetries.sets):
        for order in itertools.permutations(range(each.size)):
            tried = list(found.permutations)
            tried[number] = torch.tensor(order)
            moved = symmetries.permuted(second.state_dict(), tried)
            apart = (
                sum((here[key].double() - moved[key].double()).square().sum() for key in symmetries.counted)
                ** 0.5
            )
            assert found.distance_after <= float(apart) * (1 + 1e-12)


CROSSED = {
    "both axes of a tensor": lambda: Block(
        lambda s, x: s.last(x.flatten(1) @ s.first + s.mix(x.flatten(1) @ s.first)),
        first=nn.Parameter(torch.randn(64, 6) / 100),
        mix=nn.Linear(6, 6),
        last=nn.Linear(6, 10),
    ),
    "products of all pairs": lambda: Block(
        lambda s, x: s.last((s.first(x.flatten(1))[:, :, None] * s.first(x.flatten(1))[:, None]).flatten(1)),
        first=nn.Linear(64, 6),
        last=nn.Linear(36, 10),
    ),
}


@pytest.mark.parametrize("name", CROSSED)
def test_a_set_that_stands_across_itself_does_not_make_the_distance_grow(name):
    torch.manual_seed(0)
    network = CROSSED[name]()
    symmetries = symmetries_of(network, loss, digits(8))
    assert [each.size for each in symmetries.sets] == [6]
    for seed in range(12):
        # What is tied by itself alone weighs more than what is not.
        other = {
            key: torch.randn(each.shape) / (1 + 20 * (key == "first"))
            for key, each in network.state_dict().items()
        }
        found = aligned(network, other, symmetries, loss, digits(8), seed=seed)
        assert found.distance_after <= found.distance_before


def test_the_same_seed_gives_the_same_bits_with_any_number_of_threads():
    first, second = made("VGG-9", seed=1), made("VGG-9", seed=2)
    symmetries = symmetries_of(first, loss, digits(8))
    threads = torch.get_num_threads()
    try:
        found = []
        for number in (1, 2):
            torch.set_num_threads(number)
            found.append(aligned(first, second.state_dict(), symmetries, loss, digits(8), seed=3))
    finally:
        torch.set_num_threads(threads)
    assert all(map(torch.equal, found[0].permutations, found[1].permutations))
    assert found[0].distance_after == found[1].distance_after


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types_are_aligned_in_them(dtype):
    first, second = (made("perceptron", seed=seed).to(dtype) for seed in (1, 2))
    symmetries = symmetries_of(first, loss, digits(8))
    found = aligned(first, second.state_dict(), symmetries, loss, digits(8), seed=0)
    assert {each.dtype for each in found.state.values()} == {dtype}
    assert found.distance_after < found.distance_before


def test_a_network_in_training_mode_with_frozen_parameters_is_left_as_it_was():
    network = made("perceptron with normalization").train()
    network[1].weight.requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    symmetries = symmetries_of(network, loss, digits(8))
    aligned(network, shuffled(symmetries, before, 1)[1], symmetries, loss, digits(8), seed=0)
    assert network.training
    assert network[2].training
    assert not network[1].weight.requires_grad
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_running_statistics_follow_their_units_and_do_not_count():
    network = made("perceptron with normalization")
    symmetries = symmetries_of(network, loss, digits(8))
    assert not any("running" in name for name in symmetries.counted)
    other = {key: each.clone() for key, each in network.state_dict().items()}
    other["2.running_mean"] += 100
    found = aligned(network, shuffled(symmetries, other, 1)[1], symmetries, loss, digits(8), seed=0)
    assert found.distance_after == 0
    assert torch.equal(found.state["2.running_mean"], other["2.running_mean"])


@pytest.mark.parametrize("left_out", ["second.weight", "third.weight"])
def test_one_name_of_a_shared_tensor_is_enough(left_out):
    def tied(seed):
        torch.manual_seed(seed)
        layers = {name: nn.Linear(12, 12) for name in ("second", "third")}
        network = Block(
            lambda s, x: s.last(s.third(torch.tanh(s.second(torch.tanh(s.first(x.flatten(1))))))),
            first=nn.Linear(64, 12),
            last=nn.Linear(12, 10),
            **layers,
        )
        network.third.weight = network.second.weight
        return network

    first, second = tied(1), tied(2)
    symmetries = symmetries_of(first, loss, digits(8))
    assert [each.size for each in symmetries.sets] == [12]
    assert len([name for name in symmetries.counted if name.endswith("d.weight")]) == 1
    state = second.state_dict()
    found = [
        aligned(first, given, symmetries, loss, digits(8), seed=0)
        for given in (state, {key: each for key, each in state.items() if key != left_out})
    ]
    assert torch.equal(*(each.permutations[0] for each in found))
    assert found[1].state.keys() == state.keys() - {left_out}
    assert torch.equal(found[0].state["second.weight"], found[0].state["third.weight"])


def _deciding(edge):
    """Goes past a mask on some batches."""

    def forward(s, x):
        hidden = torch.relu(s.first(x.flatten(1)))
        if x.mean() > edge:
            hidden = hidden * torch.cat([hidden.new_zeros(4), hidden.new_ones(8)])
        return s.last(hidden.cumsum(1) if x.mean() > edge + 0.4 else hidden)

    return Block(forward, first=nn.Linear(64, 12), last=nn.Linear(12, 10))


def test_where_data_decide_the_ways_of_all_batches_count():
    torch.manual_seed(0)
    images, labels = digits(6)
    batch, masked, summed = ((images + shift, labels) for shift in (0, 0.6, 2))
    network = _deciding(0.7)
    where = r"item of the data is read at test_aligning.py:\d+, so other batches may go another way"
    with pytest.raises(LandscapeError, match=where):
        symmetries_of(network, loss, batch)

    def sizes(*others):
        return sorted(each.size for each in symmetries_of(network, loss, batch, others=others).sets)

    assert sizes() == [12]
    assert sizes(masked) == [4, 8]
    with pytest.raises(LandscapeError, match="the order of its units counts for cumsum"):
        sizes(masked, summed)
    symmetries = symmetries_of(network, loss, batch, others=())
    other = _deciding(0.7).state_dict()
    with pytest.raises(LandscapeError, match="loss of an example differs"):
        aligned(network, other, symmetries, loss, batch, others=[masked], seed=0)


def test_a_loss_that_takes_derivatives_itself_is_followed_through_them():
    def residual(network, points):
        points = points.clone().requires_grad_(True)
        values = network(points)
        (slope,) = torch.autograd.grad(values.sum(), points, create_graph=True)
        (bend,) = torch.autograd.grad(slope[:, 0].sum(), points, create_graph=True)
        return (bend[:, 0] + slope[:, 1] - values[:, 0]) ** 2

    network = nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 9), nn.SiLU(), nn.Linear(9, 1))
    symmetries = symmetries_of(network, residual, torch.randn(7, 2), gradients=True)
    assert [each.size for each in symmetries.sets] == [16, 9]
    _, moved = shuffled(symmetries, network.state_dict(), seed=1)
    found = aligned(network, moved, symmetries, residual, torch.randn(7, 2), seed=0, gradients=True)
    assert found.distance_after == 0


UNFIT = {
    "missing": (None, "the second network has no tensor 1.bias"),
    "shape": (torch.zeros(31), r"1.bias has shape \(32,\) in the first network and \(31,\) in the second"),
    "not finite": (torch.full((32,), torch.nan), "1.bias of the second network is not finite"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_networks_that_do_not_fit_are_refused_by_the_tensor(name):
    network = made("perceptron")
    shift, text = UNFIT[name]
    state = network.state_dict() | {"1.bias": shift}
    if shift is None:
        del state["1.bias"]
    symmetries = symmetries_of(network, loss, digits(8))
    with pytest.raises(LandscapeError, match=f"^align: {text}$"):
        aligned(network, state, symmetries, loss, digits(8), seed=0)


def test_a_permutation_that_changes_the_losses_is_refused():
    network, other = made("perceptron", seed=1), made("perceptron", seed=2)
    wrong = Symmetries(
        sets=(UnitSet(name="1.weight[0]", size=32),),
        orders={"1.weight": (((Factor(32, 0),),), ((Factor(64, None),),))},
        counted=("1.weight",),
        in_order={},
    )
    with pytest.raises(LandscapeError, match=r"the permuted network's loss of an example differs by \d"):
        aligned(network, other.state_dict(), wrong, loss, digits(8), seed=0)


def test_a_missing_scipy_is_said_with_what_to_install(monkeypatch):
    network = made("perceptron")
    symmetries = symmetries_of(network, loss, digits(8))
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(LandscapeError, match=r"needs scipy, which is not installed; valid is pip install"):
        aligned(network, network.state_dict(), symmetries, loss, digits(8), seed=0)


def check_random(seed):
    """A random network, if its units may be permuted at all; over batches that were not looked at, too."""
    problem = problem_of(seed)
    setting, batches = problem.setting, [each.data for each in problem.batches]
    if problem.dtype != torch.float32:
        setting.model.to(problem.dtype)
    before = copy.deepcopy(setting.model.state_dict())
    try:
        symmetries = symmetries_of(setting.model, setting.loss, batches[0])
    except LandscapeError as error:
        assert str(error).startswith("align: ")  # noqa: PT017
        return
    generator = torch.Generator().manual_seed(seed)
    other = {
        key: each * (1 + 0.2 * torch.rand(each.shape, generator=generator)).to(each.dtype)
        if each.is_floating_point()
        else each
        for key, each in before.items()
    }
    found = aligned(
        setting.model, shuffled(symmetries, other, seed)[1], symmetries, setting.loss, batches[0], seed=seed
    )
    assert found.distance_after <= found.distance_before
    losses = []
    for state in (other, found.state):
        setting.model.load_state_dict(state)
        with torch.no_grad():
            losses.append([losses_of(setting.loss(setting.model, each)).double() for each in batches])
    one, two = (torch.cat(each) for each in losses)
    scale = one.abs().clamp_min(one.abs().nanmean())
    assert float(((one - two).abs() / scale).nan_to_num(0).max()) < 1e-5


@settings(max_examples=15)
@given(seed=st.integers(0, 2**20))
def test_a_random_network_computes_what_it_did(seed):
    check_random(seed)


@pytest.mark.exhaustive
@pytest.mark.slow
@settings(max_examples=300)
@given(seed=st.integers(0, 2**20))
def test_hundreds_of_random_networks_compute_what_they_did(seed):
    check_random(seed)
