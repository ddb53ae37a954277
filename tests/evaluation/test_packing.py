"""Linear layers on rows of tokens with packed weights: where they are used, and that they are the same layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.choosing import choose_engine
from mpi_landscape.evaluation.engine import packing
from mpi_landscape.evaluation.engine.description import PLAIN
from mpi_landscape.evaluation.engine.packing import PACKED, packed_linear, packed_weight
from mpi_landscape.loading.batches import Batch
from tests.evaluation.test_engines import PROBES, setting_of

pytestmark = pytest.mark.skipif(not packing.is_offered(), reason="needs oneDNN on a processor with AVX2")
WIDTH, HIDDEN = 128, 384
POINTS = [(0.5, 0.25), (-1.0, 0.75), (0.0, 0.0), (0.5, 0.25)]


@pytest.fixture(autouse=True)
def exact():
    with exact_arithmetic():
        yield


class Tokens(nn.Module):
    """Two linear layers on tokens, one of them called twice, and a head on their mean."""

    def __init__(self, *, bias=True):
        super().__init__()
        self.up = nn.Linear(WIDTH, HIDDEN, bias=bias)
        self.down = nn.Linear(HIDDEN, WIDTH)
        self.head = nn.Linear(WIDTH, 400)

    def forward(self, tokens):
        for _ in range(2):
            tokens = F.layer_norm(tokens + self.down(F.gelu(self.up(tokens))), (WIDTH,))
        return self.head(tokens.mean(1))


class Subclass(nn.Linear):
    """A layer that may do something else."""


class Borrowed(Tokens):
    """The weight of a layer is used outside of it, too."""

    def forward(self, tokens):
        return super().forward(tokens) + self.up.weight.mean()


class Written(Tokens):
    """A weight is written in the pass, past the layer, for some examples alone."""

    def forward(self, tokens):
        if tokens.abs().max() > 100:
            self.up.weight.mul_(0.5)
        return super().forward(tokens)


def network(kind=Tokens, **arguments):
    torch.manual_seed(0)
    return kind(**arguments).eval()


def batch(count=12, length=9, scale=1.0):
    draws = torch.Generator().manual_seed(count + length)
    tokens = scale * torch.randn(count, length, WIDTH, generator=draws)
    return Batch(data=[tokens, torch.arange(count) % 400], valid=count)


def engine_of(model, *, data=None, dtype=torch.float32):
    data = data or batch()
    return choose_engine(setting_of(model), data, PROBES, dtype=dtype, steps=("packed",))


def tied(model):
    model.other = nn.Linear(WIDTH, HIDDEN)
    model.other.weight = model.up.weight
    return model


def hooked(model):
    model.up.register_forward_hook(lambda _, __, output: output)
    return model


def replaced(model):
    model.up = Subclass(WIDTH, HIDDEN)
    return model


def parametrized(model):
    parametrizations.weight_norm(model.up)
    return model


@pytest.mark.parametrize(
    ("build", "taken", "reason"),
    [
        (network, ("up", "down"), "not the head, which has one row for each example"),
        (lambda: network(bias=False), ("up", "down"), "a bias is not needed"),
        (lambda: tied(network()), ("down",), "a shared weight"),
        (lambda: hooked(network()), ("down",), "a hook"),
        (lambda: replaced(network()), ("down",), "a subclass"),
        (lambda: parametrized(network()), ("down",), "a weight that is made of others"),
        (lambda: network(Borrowed), ("down",), "a weight that is used elsewhere"),
    ],
)
def test_a_layer_is_packed_where_its_weight_is_its_own(build, taken, reason):
    engine, dropped = engine_of(build())
    assert engine.value(PACKED) == taken, (reason, dropped)


def test_nothing_is_packed_in_float64():
    data = batch()
    doubled = Batch(data=[data.data[0].double(), data.data[1]], valid=data.valid)
    assert engine_of(network().double(), data=doubled, dtype=torch.float64) == (PLAIN, [])


def test_nothing_is_packed_where_the_processor_has_no_kernel(monkeypatch):
    monkeypatch.setattr(packing, "is_offered", lambda: False)
    assert engine_of(network()) == (PLAIN, [])


def test_a_layer_of_transformers_with_its_weight_the_other_way_round_is_packed():
    module = pytest.importorskip("transformers.pytorch_utils", reason="pip install transformers")
    model = network()
    model.up = module.Conv1D(HIDDEN, WIDTH)
    engine, _ = engine_of(model)
    assert engine.value(PACKED) == ("up", "down")


@pytest.mark.parametrize(("rows", "inner", "out"), [(17, 192, 576), (788, 768, 192), (256, 384, 1536)])
def test_a_packed_product_is_no_further_from_float64_than_torchs_own_by_much(rows, inner, out):
    draws = torch.Generator().manual_seed(rows)
    inputs = torch.randn(rows, inner, generator=draws)
    weight, bias = torch.randn(out, inner, generator=draws), torch.randn(out, generator=draws)
    exact = F.linear(inputs.double(), weight.double(), bias.double())
    own, packed = F.linear(inputs, weight, bias), packed_linear(inputs, packed_weight(weight), bias)
    # Both add as many products in float32, in other orders: a root of the mean of squares hardly depends on it.
    errors = [(each.double() - exact).square().mean().sqrt().item() for each in (packed, own)]
    assert errors[0] <= 2 * errors[1]


@pytest.mark.parametrize("threads", [1, 3])
def test_packed_weights_follow_the_point_with_the_same_bits_in_any_number_of_threads(threads):
    setting, data = setting_of(network()), [batch(), batch(5, 4), batch(7, 30)]
    engine, _ = engine_of(setting.model)
    with setting.evaluator(engine, torch.float32) as evaluator:
        alone = evaluator.tile([data], POINTS)
    with setting.evaluator(engine, torch.float32, threads=threads) as evaluator:
        together = evaluator.tile([data], POINTS)
    assert together.tolist() == alone.tolist()
    assert alone[0].tolist() == alone[3].tolist(), "the same point after others"
    exact = setting.reference().tile([data], POINTS)
    assert alone[:, 0] == pytest.approx(exact[:, 0], rel=1e-5)


def test_a_packed_weight_is_what_computes(monkeypatch):
    setting, calls = setting_of(network()), []
    engine, _ = engine_of(setting.model)
    monkeypatch.setattr(packing, "packed_linear", lambda *given: calls.append(1) or packed_linear(*given))
    with setting.evaluator(engine, torch.float32) as evaluator:
        evaluator.tile([[batch()]], POINTS)
    assert len(calls) == 4 * len(POINTS), "also after moves"


def test_a_weight_that_the_pass_itself_writes_is_the_one_that_counts():
    setting = setting_of(network(Written))
    engine, _ = engine_of(setting.model)
    assert engine.value(PACKED), "not in the trial"
    data = batch(scale=200.0)
    with setting.evaluator(engine, torch.float32) as evaluator:
        found = evaluator.example_losses(data, (0.5, 0.25))
    assert found == pytest.approx(setting.reference().losses([data], (0.5, 0.25)), rel=1e-5)


def test_a_loss_that_takes_derivatives_packs_nothing():
    def slope(model, data):
        tokens = data[0].clone().requires_grad_()
        (found,) = torch.autograd.grad(model(tokens).sum(), tokens)
        return found.square().sum((1, 2))

    setting = setting_of(network(), loss=slope)
    setting = type(setting)(**{**vars(setting), "gradients": True})
    engine, dropped = choose_engine(setting, batch(), PROBES, dtype=torch.float32, steps=("packed",))
    assert (engine, dropped) == (PLAIN, [])


def test_where_a_gradient_is_asked_for_the_layer_itself_computes():
    setting = setting_of(network())
    engine, _ = engine_of(setting.model)
    with setting.evaluator(engine, torch.float32) as evaluator:
        evaluator.move(0.0, 0.0)
        tokens = batch().data[0].requires_grad_()
        (found,) = torch.autograd.grad(evaluator.network(tokens).sum(), tokens)
    (expected,) = torch.autograd.grad(setting.model(tokens).sum(), tokens)
    assert torch.equal(found, expected)
