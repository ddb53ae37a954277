"""Faster ways are right or dropped, by rule; what rounding leaves of a product is measured."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.curvature import folded
from mpi_landscape.evaluation.curvature.graphs import graph_bytes
from mpi_landscape.evaluation.curvature.operators import Hessian
from mpi_landscape.problem.losses import evaluate
from tests.evaluation.curvature.oracle import (
    Residual,
    batches_of,
    cross_entropy,
    dense,
    labels,
    made,
    normal,
    products_of,
    whole,
)
from tests.evaluation.curvature.test_products import error_of


@pytest.fixture(autouse=True)
def exact():
    with exact_arithmetic():
        yield


class Varied(nn.Module):
    """Normalizations that may be folded: after a linear layer, a grouped one, one with reflections, without scale or bias."""

    def __init__(self):
        super().__init__()
        self.one = nn.Conv2d(2, 4, 3, padding=1, padding_mode="reflect", groups=2)
        self.norm1 = nn.BatchNorm2d(4, affine=False)
        self.two = nn.Conv2d(4, 3, 3, stride=2, bias=False)
        self.norm2 = nn.BatchNorm2d(3, eps=0.1)
        self.three = nn.Linear(12, 5)
        self.norm3 = nn.BatchNorm1d(5)
        self.head = nn.Linear(5, 4)

    def forward(self, images):
        hidden = torch.tanh(self.norm1(self.one(images)))
        hidden = F.relu(self.norm2(self.two(hidden))).flatten(1)
        return self.head(torch.tanh(self.norm3(self.three(hidden))))


def test_folded_normalizations_of_every_kind_have_the_dense_hessian():
    torch.manual_seed(2)
    model, data = Varied(), [normal(9, 2, 5, 5), labels(9, 4)]
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.uniform_(0.5, 2)
        for norm in (model.norm2, model.norm3):
            norm.weight.uniform_(-2, 2)
            norm.bias.normal_()
    # Weights and scales, so that what they have together is there, too; not all, for time.
    names = ["one.bias", "two.weight", "norm2.weight", "norm2.bias", "three.bias", "norm3.weight"]
    with products_of(model, cross_entropy, parameters=names, dtype=torch.float64) as products:
        found = whole(products, batches_of(data, 4, torch.float64))
        assert products.way.folded == (("one", "norm1"), ("two", "norm2"), ("three", "norm3"))
        assert products.way.channels_last
    assert error_of(found, dense(model, cross_entropy, data, names)) < 1e-11


class Spread(Residual):
    """The first convolution's output also goes past its normalization."""

    def forward(self, images):
        before = self.first(images)
        hidden = F.relu(self.norm1(before)) + before
        hidden = F.relu(self.norm2(self.second(hidden)))
        return self.head(hidden.mean(dim=(2, 3)))


class Looking(Residual):
    """Python looks at a number, so another pass may go another way."""

    def forward(self, images):
        return super().forward(images) * (2 if self.head.weight.sum() > 0 else 1)


LEFT_ALONE = {
    "past": (Spread, (("second", "norm2"),), ""),
    "looking": (Looking, (), "folded dropped: item of the parameters is read"),
}


@pytest.mark.parametrize(("build", "pairs", "line"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_what_may_not_be_folded_is_left_alone(build, pairs, line):
    torch.manual_seed(2)
    model, data = build(), [normal(7, 2, 5, 5), labels(7, 4)]
    names = [name for name, _ in model.named_parameters()]
    with products_of(model, cross_entropy, dtype=torch.float64) as products:
        found = whole(products, batches_of(data, 4, torch.float64))
        assert products.way.folded == pairs
        assert any(line in each for each in products.way.dropped) == bool(line)
    assert error_of(found, dense(model, cross_entropy, data, names)) < 1e-11


def test_a_folding_that_is_wrong_away_from_the_network_is_dropped(monkeypatch):
    model, loss, data = made("residual")

    def wrong(self, x):
        # The same value; the bias is left out of derivatives.
        return self.norm(self.layer(x)) + (self.norm.bias.detach() - self.norm.bias).reshape(-1, 1, 1)

    monkeypatch.setattr(folded.Folded, "forward", wrong)
    names = [name for name, _ in model.named_parameters()]
    with products_of(model, loss, dtype=torch.float64) as products:
        found = whole(products, batches_of(data, 4, torch.float64))
        assert not products.way.folded
        assert any(line.startswith("folded dropped: a product differs by") for line in products.way.dropped)
    assert error_of(found, dense(model, loss, data, names)) < 1e-11


def test_a_loss_that_does_not_take_float64_stays_in_float32():
    model, _, data = made("mlp")

    def loss(model, batch):
        outputs = model(batch[0])
        if outputs.dtype != batch[0].dtype:
            raise TypeError("only float")
        return F.cross_entropy(outputs, batch[1], reduction="none")

    names = [name for name, _ in model.named_parameters()]
    with products_of(model, loss) as products:
        found = whole(products, batches_of(data, 4))
        assert not products.way.precise
        assert any("loss in float64 dropped: loss: calling it" in line for line in products.way.dropped)
    assert error_of(found, dense(model, loss, data, names)) < 1e-6


@pytest.mark.parametrize("loss", ["named", "user's own"])
def test_the_noise_is_about_the_error_of_the_largest_eigenvalue(loss):
    model, ours, data = made("mlp", number=32)

    def single(model, batch):
        # Rounds in float32 whatever comes.
        outputs = model(batch[0])
        return F.cross_entropy(outputs.to(batch[0].dtype), batch[1], reduction="none")

    function = ours if loss == "named" else single
    data[1] = model(data[0].float()).argmax(1)
    with torch.no_grad():
        model[-1].weight *= 40
        model[-1].bias *= 40
    wanted = dense(model, ours, data, [name for name, _ in model.named_parameters()])
    batches = batches_of(data, 32)
    with products_of(model, function) as products:
        noise = products.noise(lambda: [batches])
        error = error_of(whole(products, batches), wanted)
    assert error / 30 < noise < 10 * error
    assert noise < 3e-6 or loss != "named"
    assert noise > 3e-6 or loss == "named"


def test_the_noise_follows_the_network_and_float64_has_less():
    model, loss, data = made("residual")
    batches = batches_of(data, 11)
    with products_of(model, loss) as products:
        before = products.noise(lambda: [batches])
        products.put({name: torch.zeros_like(each) for name, each in model.named_parameters()})
        # Only the last bias has curvature there.
        assert products.noise(lambda: [batches]) < 1e-6
        products.put({"head.bias": torch.full((4,), torch.nan)})
        assert products.noise(lambda: [batches]) != products.noise(lambda: [batches])
        products.put(products._came)
        assert products.noise(lambda: [batches]) == before
    with products_of(model, loss, dtype=torch.float64) as products:
        finer = products.noise(lambda: [batches_of(data, 11, torch.float64)])
    assert 0 < finer < 1e-12 < 1e-9 < before < 1e-5


def test_folding_halves_a_graph():
    torch.manual_seed(0)
    model, data = Residual().eval(), [normal(32, 2, 9, 9), labels(32, 4)]
    (batch,) = batches_of(data, 32)
    sizes = {}
    for engine in ("plain", "auto"):
        with products_of(model, cross_entropy, engine=engine) as products:
            products.choose(batch)
            replica = products._replicas.first
            sizes[engine] = graph_bytes(lambda r=replica: Hessian(r.function(batch)), batch.data)
    assert sizes["auto"] < 0.65 * sizes["plain"]


def test_what_threads_would_share_is_folded_in_one_thread():
    model, _, data = made("residual")
    seen = {"number": torch.zeros(())}

    def loss(model, batch):
        seen["number"] = seen["number"] + 1
        return F.cross_entropy(model(batch[0]), batch[1], reduction="none")

    names = [name for name, _ in model.named_parameters()]
    with products_of(model, loss, dtype=torch.float64, threads=3) as products:
        found = whole(products, batches_of(data, 4, torch.float64))
        assert len(products.way.folded) == 2
        assert len(products._replicas) == 1
        assert any("threads dropped: loss: seen: a dict" in line for line in products.way.dropped)
    assert error_of(found, dense(model, loss, data, names)) < 1e-11


def test_a_network_is_put_back_at_once_also_where_somebody_keeps_what_was_raised():
    model, _, data = made("mlp")
    before = {name: each.clone() for name, each in model.state_dict().items()}

    def loss(model, batch):
        outputs = model(batch[0])
        # Not where the network came, but where ways are tried.
        if not torch.equal(model[0].weight, before["0.weight"].to(outputs.dtype)):
            raise RuntimeError("only here")
        return F.cross_entropy(outputs, batch[1], reduction="none")

    with products_of(model, loss) as products:
        # What was raised holds every frame that it came through.
        with pytest.raises(LandscapeError, match="only here") as kept:
            whole(products, batches_of(data, 4))
        assert kept.tb is not None
        for name, each in model.state_dict().items():
            torch.testing.assert_close(each, before[name], rtol=0, atol=0)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_compiled_products_have_the_dense_hessian_of_ragged_batches():
    model, _, data = made("residual")
    loss = functools.partial(evaluate, name="cross_entropy", arguments={})
    names = ["first.weight", "norm1.weight", "head.bias"]
    batches = batches_of(data, 4)
    with products_of(model, loss, parameters=names, engine="compiled", threads=2) as products:
        found = whole(products, batches)
        assert products.way.compiled, products.way.dropped
        assert products.way.folded
        assert products.count == 11
        state = {name: each / 2 for name, each in model.state_dict().items()}
        products.put(state)
        elsewhere = whole(products, batches)
    assert error_of(found, dense(model, loss, data, names)) < 1e-6
    model.load_state_dict(state)
    assert error_of(elsewhere, dense(model, loss, data, names)) < 1e-6


@pytest.mark.slow
@pytest.mark.exhaustive
def test_networks_of_many_sizes_are_compiled_one_after_another_in_one_process():
    # What is compiled for one is never widened to sizes in general for the next, nor does the number of them end it.
    for size in range(2, 12):
        torch.manual_seed(size)
        model = nn.Sequential(nn.Linear(size, size + 1), nn.Tanh(), nn.Linear(size + 1, 2))
        names = [name for name, _ in model.named_parameters()]
        data = torch.randn(size, size), torch.arange(size) % 2
        loss = functools.partial(evaluate, name="cross_entropy", arguments={})
        with products_of(model, loss, engine="compiled") as products:
            found = whole(products, batches_of(data, size))
            assert products.way.compiled, (size, products.way.dropped)
        assert error_of(found, dense(model, loss, data, names)) < 1e-5


@pytest.mark.slow
@pytest.mark.exhaustive
def test_what_cannot_be_compiled_is_dropped_with_its_reason():
    model, _, data = made("mlp")

    def loss(model, batch):
        outputs = model(batch[0])
        assert outputs.sum().item() != 0
        return F.cross_entropy(outputs, batch[1], reduction="none")

    with products_of(model, loss, engine="compiled") as products:
        found = whole(products, batches_of(data, 4))
        assert not products.way.compiled
        assert any(line.startswith("compiled dropped: ") for line in products.way.dropped)
    assert error_of(found, dense(model, loss, data, [name for name, _ in model.named_parameters()])) < 1e-6


def test_the_way_does_not_depend_on_where_the_network_has_been_put():
    model, loss, data = made("residual")
    batches, found = batches_of(data, 4), []
    for state in ({}, {"norm1.weight": torch.full((3,), torch.nan)}, {"head.weight": torch.zeros(4, 3)}):
        with products_of(model, loss, threads=2) as products:
            products.put(state)
            products.product(torch.ones(1, products.size), lambda: [batches])
            found.append(products.way)
    assert found[0].folded
    assert found[0].precise
    assert found[1] == found[0]
    assert found[2] == found[0]
