"""A network with any parameters, and batch normalization's statistics made anew: against torch's own, moved by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.anywhere import Anywhere
from mpi_landscape.loading.batches import Batch


class Twice(nn.Module):
    """One batch norm that is used at two places, one that is used never, and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.unused = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.BatchNorm1d(6)
        self.second, self.drop = nn.Linear(6, 6), nn.Dropout(0.5)

    def forward(self, x):
        return self.norm(self.second(torch.relu(self.norm(self.first(x)))))


def convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 5, 1), nn.BatchNorm2d(5), nn.ReLU(), nn.Flatten(),
        nn.Linear(20, 6), nn.BatchNorm1d(6, momentum=0.3, affine=False),
    )  # fmt: skip


def loss(network, batch):
    x, y = batch
    return nn.functional.cross_entropy(network(x), y, reduction="none")


def data(sizes, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for valid in sizes:
        x = 3 * torch.randn(valid, 4, generator=generator, dtype=dtype) + 1
        y = torch.randint(6, (valid,), generator=generator)
        rest = max(sizes) - valid  # the last batch repeats its last item
        x, y = torch.cat([x, x[-1:].repeat(rest, 1)]), torch.cat([y, y[-1:].repeat(rest)])
        made.append(Batch(data=[x, y], valid=valid))
    return made


def trained(build, dtype=torch.float32):
    torch.manual_seed(3)
    model = build().to(dtype)
    with torch.no_grad():
        model.train()
        for batch in data([8, 8], seed=5, dtype=dtype):
            model(batch.data[0])
    return model.eval()


def elsewhere(model):
    """Other parameters, and other statistics."""
    other = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for tensor in other.parameters():
            tensor.add_(torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype))
        for name, buffer in other.named_buffers():
            if name.endswith("running_var"):
                buffer.mul_(2)
    return other


BUILDS = {"used twice": Twice, "convolutional": convolutional}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_sums_are_those_of_the_network_with_the_other_parameters_and_buffers(build, threads):
    model, batches = trained(build), data([8, 8, 8, 5])
    other = elsewhere(model)
    before = copy.deepcopy(model.state_dict())
    with Anywhere(model, loss, threads=threads) as anywhere:
        anywhere.put({**dict(other.named_parameters()), **dict(other.named_buffers())})
        found = anywhere.sums([batches[:3], batches[3:]])
        with torch.no_grad():
            wanted = sum(
                loss(other, [each[: batch.valid] for each in batch.data]).double().sum() for batch in batches
            )
        assert found[0] == pytest.approx(float(wanted), rel=1e-6)
        assert found[2] == 29
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("build", BUILDS.values(), ids=BUILDS)
def test_recomputed_statistics_are_those_of_update_bn(build, dtype, threads):
    model, batches = trained(build, dtype), data([8, 8, 8, 5], dtype=dtype)
    other = elsewhere(model)
    with Anywhere(model, loss, threads=threads) as anywhere:
        anywhere.put(dict(other.named_parameters()))
        found = anywhere.recompute_statistics([batches[:2], batches[2:]])
        sums = anywhere.sums([batches])
    wanted = copy.deepcopy(other)
    if isinstance(wanted, Twice):
        wanted.drop.p = 0.0
        wanted.unused = nn.Identity()  # torch's would lose what it has never seen
    update_bn([batch.data[0][: batch.valid] for batch in batches], wanted)
    names = {name for name, _ in wanted.named_buffers() if not name.endswith("tracked")}
    assert found.keys() == names
    exact = 1e-12 if dtype == torch.float64 else 1e-5
    for name in names:
        torch.testing.assert_close(found[name], wanted.get_buffer(name).double(), rtol=exact, atol=exact)
    wanted.eval()
    with torch.no_grad():
        total = sum(
            float(loss(wanted, [each[: batch.valid] for each in batch.data]).double().sum())
            for batch in batches
        )
    assert sums[0] == pytest.approx(total, rel=10 * exact)


def test_a_last_batch_of_one_example_is_left_out_of_the_statistics():
    model, batches = trained(Twice), data([8, 8, 1])
    with Anywhere(model, loss) as anywhere:
        with_it = anywhere.recompute_statistics([batches])
        without = anywhere.recompute_statistics([batches[:2]])
    assert all(torch.equal(with_it[name], without[name]) for name in without)


def test_the_bits_do_not_depend_on_the_number_of_threads():
    model, batches = trained(convolutional), data([8, 8, 8, 8, 8, 3])
    found = []
    for threads in (1, 2, 4):
        with Anywhere(model, loss, threads=threads) as anywhere:
            anywhere.put(dict(elsewhere(model).named_parameters()))
            statistics = anywhere.recompute_statistics([batches])
            found.append((anywhere.sums([batches]).tobytes(), {k: v.tolist() for k, v in statistics.items()}))
    assert found[0] == found[1] == found[2]


def test_a_network_that_a_loss_reaches_by_another_way_is_not_copied():
    model = trained(Twice)

    def closing(network, batch):
        return model(batch[0])[:, 0]

    batches = data([8, 8])
    with Anywhere(model, closing, threads=2) as anywhere:
        anywhere.put({"second.bias": torch.full((6,), 100.0)})
        found = anywhere.sums([batches])[0]
        with torch.no_grad():
            wanted = sum(float(model(batch.data[0])[:, 0].double().sum()) for batch in batches)
    assert model.second.bias.max().item() < 1
    assert found == pytest.approx(wanted, rel=1e-6)


class OwnNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(4))
        self.register_buffer("running_var", torch.ones(4))

    def forward(self, x):
        return (x - self.running_mean) / self.running_var.sqrt()


def test_statistics_of_a_kind_of_its_own_are_refused_by_name():
    model = nn.Sequential(OwnNorm(), nn.Linear(4, 6)).eval()
    with (
        Anywhere(model, loss) as anywhere,
        pytest.raises(LandscapeError, match="0 is a OwnNorm with running statistics"),
    ):
        anywhere.recompute_statistics([data([8])])


def test_a_tensor_that_the_network_has_not_is_refused():
    model = trained(Twice)
    with Anywhere(model, loss) as anywhere:
        with pytest.raises(LandscapeError, match=r"has none of the name third\.weight"):
            anywhere.put({"third.weight": torch.ones(2)})
        with pytest.raises(LandscapeError, match=r"has one of shape \(6, 4\) of the name first\.weight"):
            anywhere.put({"first.weight": torch.ones(4, 6)})


def test_statistics_of_an_instance_normalization_are_the_mean_over_instances():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Unflatten(1, (2, 2)), nn.InstanceNorm1d(2, track_running_stats=True), nn.Flatten()
    )
    batches = data([8, 8, 4])
    with Anywhere(model.eval(), lambda model, batch: model(batch[0]).sum(1)) as anywhere:
        found = anywhere.recompute_statistics([batches])
    rows = [batch.data[0][: batch.valid].double().unflatten(1, (2, 2)) for batch in batches]
    means = torch.stack([each.mean((0, 2)) for each in rows]).mean(0)
    variances = torch.stack([each.var(2).mean(0) for each in rows]).mean(0)
    torch.testing.assert_close(found["1.running_mean"], means, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["1.running_var"], variances, rtol=1e-5, atol=1e-6)
