"""What a network and a loss reach besides the network's own modules."""

import collections
import functools

import numpy as np
import pytest
import torch
from torch import nn

from mpi_landscape.configuration.sections.sources import LossConfiguration
from mpi_landscape.evaluation.reach import reach_of
from mpi_landscape.problem.losses import build_loss

SEEN = {}
SCALE = 0.5
TABLE = torch.ones(3)


def net():
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).eval()


def plain(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def helper(outputs):
    return outputs.square().mean(1) * SCALE


def with_globals(model, batch):
    return helper(model(batch[0])) * np.pi + TABLE.sum()


def into_a_global(model, batch):
    SEEN["last"] = batch
    return plain(model, batch)


def deeper(model, batch):
    return into_a_global(model, batch)


def counting(model, batch):
    global COUNT
    COUNT = 1
    return plain(model, batch)


class Kept:
    """A criterion that keeps its batch."""

    def __call__(self, model, batch):
        self.batch = batch
        return plain(model, self.batch)

    def loss(self, model, batch):
        return self(model, batch)


class Cached(nn.Module):
    cache = {}  # noqa: RUF012

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x)


class Own(nn.Module):
    """State of its own, which a copy has for itself."""

    def __init__(self):
        super().__init__()
        self.layer, self.features, self.table = nn.Linear(4, 3), {}, torch.ones(3)

    def forward(self, x):
        self.features["x"] = x
        return self.layer(x) + self.table


def nonlocal_loss():
    last = None

    def loss(model, batch):
        nonlocal last
        last = batch
        return plain(model, last)

    return loss


def deque_loss():
    log = collections.deque()
    return lambda model, batch: (log.append(1), plain(model, batch))[1]


def generator_loss():
    generator = torch.Generator()
    return lambda model, batch: plain(model, batch) + torch.rand(1, generator=generator)


def globals_loss(model, batch):
    globals()["SEEN"] = batch
    return plain(model, batch)


class GivesItself:
    def __deepcopy__(self, memo):
        return self


def teacher(hook=False):
    other = net()
    if hook:
        other[1].register_forward_hook(lambda module, inputs, output: SEEN.__setitem__("y", output))
    return lambda model, batch: plain(model, batch) + other(batch[0]).square().mean(1)


def default(model, batch, weights={}):  # noqa: B006
    return plain(model, batch)


@pytest.mark.parametrize(
    "loss",
    [plain, with_globals, functools.partial(plain), lambda model, batch: plain(model, batch), teacher()],
)
def test_a_loss_that_reaches_nothing(loss):
    reach = reach_of(net(), loss)
    assert reach.network is None
    assert reach.shared is None


def test_a_named_loss_reaches_nothing():
    loss = build_loss(
        LossConfiguration(name="cross_entropy", arguments={"label_smoothing": 0.1}), where="", folders=[]
    )
    reach = reach_of(net(), loss)
    assert (reach.network, reach.shared) == (None, None)


def test_a_network_with_state_of_its_own_reaches_nothing():
    reach = reach_of(Own(), plain)
    assert (reach.network, reach.shared) == (None, None)


@pytest.mark.parametrize(
    ("loss", "what"),
    [
        (into_a_global, "SEEN"),
        (deeper, "SEEN"),
        (counting, "COUNT"),
        (Kept(), "Kept"),
        (Kept().loss, "Kept"),
        (functools.partial(default, weights={}), "dict"),
        (default, "dict"),
        (teacher(hook=True), "Sequential"),
        (nonlocal_loss(), "last"),
        (deque_loss(), "deque"),
        (generator_loss(), "Generator"),
        (globals_loss, "globals"),
    ],
)
def test_what_threads_would_share_is_found(loss, what):
    reach = reach_of(net(), loss)
    assert reach.network is None
    assert what in reach.shared


def test_a_variable_of_one_call_alone_is_not_shared():
    def loss(model, batch):
        count = 0

        def add():
            nonlocal count
            count += 1

        add()
        return plain(model, batch)

    assert reach_of(net(), loss).shared is None


def test_an_object_that_gives_itself_for_a_copy_is_shared():
    model = net()
    model.store = GivesItself()
    assert "__deepcopy__" in reach_of(model, plain).shared


def test_a_table_outside_is_shared_once_it_is_written_to():
    table = torch.zeros(3)
    reach = reach_of(net(), lambda model, batch: plain(model, batch) + table.sum())
    assert (reach.shared, reach.written()) == (None, None)
    table.numpy()[1] = 1  # which torch does not count
    assert "table" in reach.written()


def test_a_hook_and_a_table_of_a_class_are_shared():
    model, seen = net(), {}
    model[1].register_forward_hook(lambda module, inputs, output: seen.__setitem__("x", output))
    assert "hook" in reach_of(model, plain).shared
    assert "Cached.cache" in reach_of(Cached(), plain).shared


def hooked(model):
    model[1].register_forward_hook(lambda module, inputs, output: output * model[0].weight.sum())
    return model


def replaced(model):
    forward = model.forward
    model.forward = lambda x: forward(x) / 2
    return model


def viewed(model):
    model[0].codebook = model[2].weight.data
    return model


@pytest.mark.parametrize("change", [hooked, replaced, viewed])
def test_a_second_way_from_the_network_to_itself_is_found(change):
    assert reach_of(change(net()), plain).network is not None


def test_a_second_way_from_the_loss_to_the_network_is_found():
    model = net()
    outer = nn.Sequential(model, nn.Identity())
    weight = model[0].weight
    view = model[0].weight.data
    for loss in (
        lambda inner, batch: plain(model, batch),
        lambda inner, batch: plain(inner, batch) + weight.square().sum(),
        lambda inner, batch: plain(inner, batch) + view.square().sum(),
        lambda inner, batch: plain(outer, batch),
        functools.partial(lambda inner, batch, again: plain(again, batch), again=model),
        {"f": None} and Holder(model).loss,
    ):
        assert reach_of(model, loss).network is not None


class Holder:
    def __init__(self, model):
        self.model = model

    def loss(self, model, batch):
        return plain(self.model, batch)


def test_torchs_own_networks_reach_nothing():
    torchvision = pytest.importorskip("torchvision")
    for name in ("resnet18", "mobilenet_v2", "vit_b_16", "densenet121"):
        model = torchvision.models.get_model(name, weights=None).eval()
        reach = reach_of(model, plain)
        assert (reach.network, reach.shared) == (None, None), name
    transformer = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, batch_first=True), 2).eval()
    assert reach_of(transformer, plain).shared is None
