"""The reference: the user's own network, moved in place and given back to the last bit."""

import copy
import functools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.lending import in_evaluation, moved_to
from mpi_landscape.evaluation.moves import InPlace
from mpi_landscape.evaluation.reference import Reference
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.loading.batches import Batch

POINTS = [(0.0, 0.0), (0.5, -1.0), (-1.0, 0.25)]


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).eval()


def cross_entropy(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")


def batches(dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(13, 4, generator=generator).to(dtype)
    targets = torch.randint(0, 3, (13,), generator=generator)
    return [Batch(data=[inputs[:8], targets[:8]], valid=8), Batch(data=[inputs[8:], targets[8:]], valid=5)]


def reference_of(model, loss=cross_entropy, **options):
    layout = layout_of(model)
    tensors = {**dict(model.named_buffers()), **dict(model.named_parameters())}
    center = layout.flatten(tensors, where="model")
    generator = torch.Generator().manual_seed(2)
    directions = [torch.randn(layout.size, generator=generator) for _ in range(2)]
    return (
        Reference(model, loss, InPlace(model, layout, center, directions), **options),
        layout,
        center,
        directions,
    )


def by_hand(model, loss, layout, center, directions, point, batch):
    """A plain loop over the parameters of the very network; what it was is written back."""
    before = [parameter.detach().clone() for parameter in model.parameters()]
    start = 0
    for parameter in model.parameters():
        stop = start + parameter.numel()
        value = center[start:stop] + sum(c * d[start:stop] for c, d in zip(point, directions, strict=True))
        parameter.data.copy_(value.reshape(parameter.shape))
        start = stop
    found = loss(model, batch.data).detach().double().numpy()
    for parameter, value in zip(model.parameters(), before, strict=True):
        parameter.data.copy_(value)
    return found


def test_losses_are_those_of_a_loop_over_the_network_itself():
    model = mlp()
    reference, *plane = reference_of(model)
    for point in POINTS:
        found = reference.losses(batches(), point)
        wanted = np.concatenate([by_hand(model, cross_entropy, *plane, point, batch) for batch in batches()])
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_sums_of_a_tile_are_those_of_the_losses():
    reference, *_ = reference_of(mlp())
    sums = reference.tile([batches()[:1], batches()[1:]], POINTS)
    for row, point in zip(sums, POINTS, strict=True):
        losses = reference.losses(batches(), point)
        np.testing.assert_allclose(row[[0, 2, 3]], [losses.sum(), 13, (losses**2).sum()], rtol=1e-12)
    reference.move(*POINTS[1])
    np.testing.assert_array_equal(reference.batch_sums(batches()).sum(0)[[0, 2]], sums[1][[0, 2]])


def test_the_network_is_given_back_bit_for_bit_whatever_happens():
    model = mlp()
    reference, *_ = reference_of(model)
    before = copy.deepcopy(model.state_dict())
    places = [parameter.data_ptr() for parameter in model.parameters()]
    with pytest.raises(ZeroDivisionError), reference.at(POINTS[1]):  # noqa: PT012
        assert not torch.equal(model[0].weight, before["0.weight"])
        raise ZeroDivisionError
    reference.tile([batches()], POINTS)
    assert places == [parameter.data_ptr() for parameter in model.parameters()]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_buffers_that_a_pass_writes_come_back():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.layer(x)

    model = Counting().eval()
    reference, *_ = reference_of(model)
    reference.losses(batches(), POINTS[1])
    assert model.calls == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_parameters_of_another_type_come_back_bit_for_bit(dtype):
    model = mlp().to(dtype)
    model[0].weight.data.add_(torch.tensor(1 / 3, dtype=dtype))
    before = copy.deepcopy(model.state_dict())
    reference, *_ = reference_of(model)
    reference.losses(batches(dtype), POINTS[1])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_network_in_float64_moves_from_its_own_numbers():
    """And not from their rounding to float32."""
    model = mlp().double()
    reference, layout, _, directions = reference_of(model)
    exact = torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])
    for point in POINTS:
        wanted = by_hand(
            model,
            cross_entropy,
            layout,
            exact,
            [each.double() for each in directions],
            point,
            batches(torch.float64)[0],
        )
        found = reference.example_losses(batches(torch.float64)[0], point)
        np.testing.assert_allclose(found, wanted, rtol=1e-13)


def pruned():
    model = mlp()
    prune.l1_unstructured(model[0], "weight", amount=0.3)
    return model


def old_weight_norm():
    model = mlp()
    model[0] = nn.utils.weight_norm(model[0])
    return model


def captured():
    model = mlp()
    forward = model.forward
    model.forward = lambda x: forward(x) / 2
    return model


def scripted():
    return torch.jit.script(mlp())


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("make", [pruned, old_weight_norm, captured, scripted])
def test_networks_that_cannot_be_copied_rightly_are_moved_in_place(make):
    model = make()
    reference, *plane = reference_of(model)
    reference.losses(batches(), POINTS[1])  # as after any other point
    for point in POINTS:
        wanted = by_hand(model, cross_entropy, *plane, point, batches()[0])
        np.testing.assert_allclose(reference.example_losses(batches()[0], point), wanted, rtol=1e-6)


def test_a_loss_may_take_derivatives():
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).eval()

    def residual(model, batch):
        t = batch.clone().requires_grad_(True)
        u = model(t)
        (slope,) = torch.autograd.grad(u.sum(), t, create_graph=True)
        return ((slope + u) ** 2)[:, 0]

    reference, *plane = reference_of(model, residual, gradients=True)
    batch = Batch(data=torch.linspace(0, 3, 7)[:, None], valid=7)
    wanted = by_hand(model, residual, *plane, POINTS[1], batch)
    np.testing.assert_allclose(reference.example_losses(batch, POINTS[1]), wanted, rtol=1e-6)


def test_a_loss_may_take_its_batch_apart():
    def popping(model, batch):
        return cross_entropy(model, [batch.pop("input"), batch.pop("labels")])

    model = mlp()
    reference, *_ = reference_of(model, popping)
    inputs, labels = batches()[0].data
    batch = Batch(data={"input": inputs, "labels": labels}, valid=8)
    first = reference.example_losses(batch, POINTS[1])
    np.testing.assert_array_equal(first, reference.example_losses(batch, POINTS[1]))


def test_what_cannot_be_written_is_refused_in_a_line():
    with torch.inference_mode():
        model = nn.Linear(4, 3)
    layout = layout_of(model)
    with torch.inference_mode():
        center = layout.flatten(dict(model.named_parameters()), where="model")
    moves = InPlace(model, layout, center.clone(), [torch.ones(layout.size)])
    reference = Reference(model, cross_entropy, moves)
    with pytest.raises(LandscapeError, match=r"weight cannot be set in place .*inference_mode"):
        reference.losses(batches(), (1.0,))


def test_a_point_off_the_plane_is_refused():
    reference, *_ = reference_of(mlp())
    with pytest.raises(LandscapeError, match="one coordinate per direction"):
        reference.losses(batches(), (0.0, 0.0, 1.0))


class Adapter(nn.Linear):
    """Merges itself into the weight on eval(), and out of it on train(), as adapters of language models do."""

    def __init__(self):
        super().__init__(4, 3)
        self.extra = nn.Parameter(torch.full((3, 4), 1 / 3))
        self.merged = False

    def train(self, mode=True):
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * self.extra.data
            self.merged = not mode
        return super().train(mode)

    def forward(self, x):
        weight = self.weight if self.merged else self.weight + self.extra
        return nn.functional.linear(x, weight, self.bias)


def test_an_adapter_is_merged_once_and_given_back():
    model = nn.Sequential(Adapter())
    before = copy.deepcopy(model.state_dict())
    wanted = cross_entropy(model, batches()[0].data).detach().double().numpy()
    with in_evaluation(model) as changed:
        assert changed == ("0.weight",)
        assert model[0].merged
        reference, *_ = reference_of(model)
        np.testing.assert_allclose(reference.example_losses(batches()[0], (0.0,)), wanted, rtol=1e-5)
    assert model.training
    assert not model[0].merged
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_modes_come_back_one_by_one():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 3))
    model[0].eval()
    with in_evaluation(model) as changed:
        assert not any(module.training for module in model.modules())
        assert changed == ()
    assert [module.training for module in model.modules()] == [True, False, True, True]


def test_a_network_in_another_type_for_a_while():
    model = nn.Sequential(nn.Linear(4, 3).bfloat16(), nn.Linear(3, 2))
    model.register_buffer("times", torch.tensor([1.7e9 + 0.25], dtype=torch.float64))
    model.register_buffer("turns", torch.tensor([1 + 2j]))
    model.register_buffer("steps", torch.tensor(3))
    places = {name: (tensor.data_ptr(), tensor.dtype) for name, tensor in model.state_dict().items()}
    cpu = torch.device("cpu")
    with moved_to(model, cpu):
        assert model[0].weight.dtype == torch.float32
        assert model[1].weight.data_ptr() == places["1.weight"][0]
        assert model.turns.dtype == torch.complex64
        assert model.times.dtype == torch.float64
    with moved_to(model, cpu, torch.float64):
        assert model[0].weight.dtype == torch.float64
        assert model.turns == 1 + 2j
        assert model.turns.dtype == torch.complex128
        assert model.steps.dtype == torch.int64
    assert places == {name: (tensor.data_ptr(), tensor.dtype) for name, tensor in model.state_dict().items()}


def test_a_partial_loss_is_called_as_it_is():
    reference, *plane = reference_of(mlp(), functools.partial(cross_entropy))
    np.testing.assert_allclose(
        reference.example_losses(batches()[0], POINTS[2]),
        by_hand(reference.network, cross_entropy, *plane, POINTS[2], batches()[0]),
        rtol=1e-6,
    )
