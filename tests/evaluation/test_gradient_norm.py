"""The norm of the loss's gradient: closed forms, a plain loop in float64, and the same bits however it is computed."""

import copy
import threading

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.gradient_norm import GradientNorm, check_differentiable, moved_parameters
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.resident import make_resident
from tests.evaluation.test_evaluator import (
    POINTS,
    Tied,
    batches_of,
    cross_entropy,
    drawn,
    flat,
    images,
    line_network,
    small_resnet,
    squared_error,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def exact():
    with exact_arithmetic():
        yield


def norm_of(model, loss, directions=None, *, buffers=(), **settings):
    center = flat(model, buffers)
    directions = drawn(len(center)) if directions is None else directions
    layout = layout_of(model, normalization_buffers=bool(buffers))
    return GradientNorm(model, loss, layout, center, directions, device=CPU, **settings)


def plain_float64(model, loss, examples, directions, point, counted):
    """The norm by torch's own autograd in float64: tensors set by hand, all examples at once."""
    network = copy.deepcopy(model).double().eval().requires_grad_(True)
    start = 0
    with torch.no_grad():
        for parameter in network.parameters():
            stop = start + parameter.numel()
            for coordinate, direction in zip(point, directions, strict=True):
                parameter += coordinate * direction[start:stop].double().reshape(parameter.shape)
            start = stop
    inputs = torch.stack([each for each, _ in examples])
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    result = loss(network, [inputs, torch.as_tensor([label for _, label in examples])])
    (result["loss"] if isinstance(result, dict) else result).mean().backward()
    gradients = [
        parameter.grad.reshape(-1)
        for name, parameter in network.named_parameters()
        if counted(name) and parameter.grad is not None
    ]
    return torch.cat(gradients).norm().item()


def test_the_gradient_of_a_quadratic_is_its_closed_form():
    # L = mean((X w - y)^2), so the gradient is 2/N Xᵀ (X w - y). Small integers and quarters: only the norm rounds.
    inputs = np.array(
        [[1.0, -2.0, 3.0], [0.0, 4.0, 1.0], [2.0, 2.0, -1.0], [5.0, 0.0, 1.0], [-3.0, 1.0, 2.0]]
    )
    targets = np.array([1.0, -2.0, 0.0, 3.0, 2.0])
    weights, directions = np.array([1.0, -2.0, 4.0]), np.array([[2.0, 0.0, -1.0], [1.0, 3.0, 1.0]])
    examples = [(torch.tensor(x), y) for x, y in zip(inputs, targets, strict=True)]
    vectors = [torch.tensor(direction, dtype=torch.float32) for direction in directions]
    with norm_of(line_network(weights.tolist()), squared_error, vectors, threads=2) as norm:
        found = norm.row([batches_of(examples, 2)], POINTS)
    expected = [
        np.linalg.norm(2 / 5 * inputs.T @ (inputs @ (weights + np.array(point) @ directions) - targets))
        for point in POINTS
    ]
    assert found.shape == (len(POINTS), 1)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-15)  # a square root and a division by 5
    assert len(set(found[:, 0])) == len(POINTS)


def test_it_is_the_norm_of_the_mean_and_not_the_mean_of_norms():
    # Two batches whose gradients are opposite.
    batches = batches_of([(torch.tensor([1.0]), 2.0), (torch.tensor([1.0]), -2.0)], 1)
    with norm_of(line_network([0.0]), squared_error, [torch.ones(1)], threads=2) as norm:
        assert norm.row([batches], [(0.0,), (3.0,)]).tolist() == [[0.0], [6.0]]


CASES = [
    (torch.float64, 1e-12, "the same operations"),
    (torch.float32, 1e-4, "two hundred operations in a row, there and back"),
]


@pytest.mark.parametrize(("dtype", "tolerance", "reason"), CASES)
def test_a_residual_network_has_the_gradient_of_plain_autograd_in_float64(dtype, tolerance, reason):
    model, examples = small_resnet(), images()
    directions = drawn(len(flat(model)))
    with norm_of(model, cross_entropy, directions, dtype=dtype, threads=2) as norm:
        found = norm.row([batches_of(examples, 16, dtype)], POINTS)
    for point, value in zip(POINTS, found[:, 0], strict=True):
        expected = plain_float64(model, cross_entropy, examples, directions, point, lambda _: True)
        assert value == pytest.approx(expected, rel=tolerance), reason


@pytest.mark.parametrize("kept", ["weight", "bias"])
def test_parameters_that_no_direction_moves_are_left_out(kept):
    model, examples = small_resnet(), images(11)
    layout = layout_of(model)
    directions = drawn(layout.size)
    for entry in layout.entries:
        # One direction is enough for a tensor to count.
        directions[0][entry.offset : entry.stop] *= entry.name.endswith(kept)
        directions[1][entry.offset : entry.stop] = 0
    names = moved_parameters(model, layout, directions)
    assert names == tuple(name for name, _ in model.named_parameters() if name.endswith(kept))
    with norm_of(model, cross_entropy, directions, dtype=torch.float64) as norm:
        (value,) = norm.row([batches_of(examples, 4, torch.float64)], [(0.5, 0.25)])[:, 0]
        assert norm.bytes_per_point == 8 * sum(entry.size for entry in layout.entries if entry.name in names)
    counted = plain_float64(
        model, cross_entropy, examples, directions, (0.5, 0.25), lambda name: name.endswith(kept)
    )
    everything = plain_float64(model, cross_entropy, examples, directions, (0.5, 0.25), lambda _: True)
    assert value == pytest.approx(counted, rel=1e-12)
    assert value < 0.999 * everything


def test_buffers_move_and_do_not_count():
    model, examples = small_resnet(), images(11)
    names = [name for name, _ in model.named_buffers() if "running" in name]
    size = len(flat(model))
    directions = drawn(len(flat(model, names)), scale=0.03)
    batches = batches_of(examples, 4, torch.float64)
    with norm_of(model, cross_entropy, directions, buffers=names, dtype=torch.float64) as norm:
        moved = norm.row([batches], [(0.0, 0.0), (1.0, -0.5)])[:, 0]
    with norm_of(model, cross_entropy, [each[:size] for each in directions], dtype=torch.float64) as norm:
        still = norm.row([batches], [(0.0, 0.0), (1.0, -0.5)])[:, 0]
    assert moved[0] == still[0]
    assert abs(moved[1] - still[1]) > 1e-3 * still[1]


class Words(nn.Module):
    """An embedding of which most rows are not met, with sparse gradients or dense ones."""

    def __init__(self, sparse):
        super().__init__()
        self.embedding = nn.EmbeddingBag(50, 6, sparse=sparse)
        self.head = nn.Linear(6, 3)
        self.unused = nn.Linear(4, 4)

    def forward(self, tokens):
        return self.head(self.embedding(tokens))


@pytest.mark.parametrize("sparse", [False, True])
def test_an_embedding_and_parameters_without_influence(sparse):
    torch.manual_seed(9)
    model = Words(sparse)
    examples = [(torch.randint(20, (5,)), index % 3) for index in range(13)]
    directions = drawn(len(flat(model)), scale=0.5)
    points = [(0.5, -1.0), (0.0, 0.0), (1.0, 0.0)]
    with norm_of(model, cross_entropy, directions, dtype=torch.float64, threads=2) as norm:
        found = norm.row([batches_of(examples, 4, torch.float64)], points)[:, 0]
    dense = Words(False)
    dense.load_state_dict(model.state_dict())
    for point, value in zip(points, found, strict=True):
        expected = plain_float64(dense, cross_entropy, examples, directions, point, lambda _: True)
        assert value == pytest.approx(expected, rel=1e-12)


def test_a_plane_that_moves_only_what_has_no_influence_has_no_gradient_in_it():
    torch.manual_seed(9)
    model = Words(False)
    examples = [(torch.randint(20, (5,)), index % 3) for index in range(4)]
    (direction,) = drawn(len(flat(model)), 1)
    for entry in layout_of(model).entries:
        direction[entry.offset : entry.stop] *= entry.name.startswith("unused")
    with norm_of(model, cross_entropy, [direction]) as norm:
        assert norm.row([batches_of(examples, 3)], [(0.0,), (1.0,)]).tolist() == [[0], [0]]


def test_a_tied_parameter_counts_once_with_its_whole_gradient():
    torch.manual_seed(2)
    model = Tied()
    examples = [(torch.tensor(index % 3), index % 2) for index in range(7)]
    directions = drawn(len(flat(model)), scale=0.5)
    with norm_of(model, cross_entropy, directions, dtype=torch.float64) as norm:
        (value,) = norm.row([batches_of(examples, 3, torch.float64)], [(1.0, -0.5)])[:, 0]
    expected = plain_float64(model, cross_entropy, examples, directions, (1.0, -0.5), lambda _: True)
    assert value == pytest.approx(expected, rel=1e-12)


def test_the_padding_of_the_last_batch_is_never_counted():
    examples = [(torch.tensor([value]), 0.0) for value in (1.0, 2.0, 4.0, 8.0, 1024.0)]
    for batch_size in (1, 2, 4, 5):
        with norm_of(line_network([1.0]), squared_error, [torch.ones(1)], threads=2) as norm:
            found = norm.row([batches_of(examples, batch_size)], [(0.0,)])
        assert found.tolist() == [[2 * (1 + 4 + 16 + 64 + 2.0**20) / 5]]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_bits_depend_neither_on_the_threads_nor_on_the_pieces(threads):
    model, batches = small_resnet(), batches_of(images(), 5)
    with norm_of(model, cross_entropy) as norm:
        expected = norm.row([batches], POINTS)
    with norm_of(model, cross_entropy, threads=threads) as norm:
        for cut in ([], [3], [1, 2, 7], list(range(1, 8))):
            pieces = [batches[start:stop] for start, stop in zip([0, *cut], [*cut, 8], strict=True)]
            assert norm.row(iter(pieces), POINTS).tobytes() == expected.tobytes()
        alone = [norm.row([batches], [point]) for point in POINTS]
        assert np.concatenate(alone).tobytes() == expected.tobytes()


def test_nan_stays_nan_and_where_it_arises():
    examples = [(torch.tensor([1.0]), 0.0), (torch.tensor([3.0]), torch.nan)]
    with norm_of(line_network([1.0]), squared_error, [torch.ones(1)], threads=2) as norm:
        assert np.isnan(norm.row([batches_of(examples, 1)], [(0.0,), (1.0,)])).all()
        finite = norm.row([batches_of(examples[:1], 1)], [(0.0,), (np.nan,), (np.inf,), (1.0,)])
    np.testing.assert_array_equal(finite[:, 0], [2, np.nan, np.inf, 4])


def test_neither_a_no_grad_of_the_caller_nor_frozen_parameters_matter_and_the_model_is_left_untouched():
    model = small_resnet().train()
    model.conv1.weight.requires_grad_(False)
    state = copy.deepcopy(model.state_dict())
    batches = batches_of(images(9), 4)
    with norm_of(model, cross_entropy, threads=2) as norm:
        expected = norm.row([batches], POINTS[:3])
        with torch.no_grad():
            assert norm.row([batches], POINTS[:3]).tobytes() == expected.tobytes()
    with torch.no_grad():
        check_differentiable(cross_entropy, model, batches[0])
    assert model.training
    assert [parameter.requires_grad for parameter in model.parameters()].count(False) == 1
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(model.state_dict()[name], value) for name, value in state.items())


def test_a_plane_that_moves_nothing_or_has_no_data_has_no_gradient_in_it():
    with norm_of(line_network([1.0, 2.0]), squared_error, [torch.zeros(2)]) as norm:
        assert norm.row([batches_of([(torch.ones(2), 0.0)], 1)], [(0.0,), (1.0,)]).tolist() == [[0], [0]]
    with norm_of(line_network([1.0, 2.0]), squared_error, [torch.ones(2)]) as norm:
        assert norm.row([], [(0.0,), (1.0,)]).tolist() == [[0], [0]]


def test_between_is_called_in_the_caller_s_thread_and_what_it_raises_ends_the_work():
    asked = []

    def between():
        asked.append(threading.get_ident())
        if len(asked) == 3:
            raise KeyboardInterrupt

    batches = batches_of([(torch.ones(1), 0.0)] * 50, 1)
    with norm_of(line_network([1.0]), squared_error, [torch.ones(1)], threads=2) as norm:
        with pytest.raises(KeyboardInterrupt):
            norm.row([batches], [(0.0,), (1.0,)], between)
        assert asked == [threading.get_ident()] * 3
        assert norm.row([batches], [(0.0,)], lambda: None).tolist() == [[2.0]]


def test_a_point_off_the_plane_is_refused():
    ours = norm_of(line_network([1.0]), squared_error, [torch.ones(1)])
    with ours as norm, pytest.raises(LandscapeError, match="one coordinate per direction"):
        norm.row([batches_of([(torch.ones(1), 0.0)], 1)], [(0.0, 1.0)])


def detached(model, batch):
    return squared_error(model, batch).detach()


def counted(model, batch):
    return (model(batch[0])[:, 0] > batch[1]).float()


def inferred(model, batch):
    with torch.inference_mode():
        outputs = model(batch[0])
    return (outputs[:, 0] - batch[1]) ** 2


def without_gradients(model, batch):
    with torch.no_grad():
        return {"loss": squared_error(model, batch)}


def of_the_input_alone(_, batch):
    return batch[0].clone().requires_grad_(True)[:, 0] ** 2


LOSSES = [
    (detached, "cut off"),
    (counted, "a step function"),
    (inferred, "without a graph"),
    (without_gradients, "without a graph, in a mapping"),
    (of_the_input_alone, "of something else"),
]


@pytest.mark.parametrize(("loss", "reason"), LOSSES, ids=[reason for _, reason in LOSSES])
def test_a_loss_without_a_gradient_is_refused_in_one_line_with_what_to_do(loss, reason):
    batch = Batch(data=[torch.ones(3, 1), torch.zeros(3)], valid=2)
    with pytest.raises(LandscapeError) as caught:
        check_differentiable(loss, line_network([1.0]), batch)
    message = str(caught.value)
    assert "\n" not in message, reason
    for word in ("gradient_norm", "no gradient", "detach()", "torch.no_grad()", "leave"):
        assert word in message, reason


class Rounded(torch.autograd.Function):
    @staticmethod
    def forward(_, values):
        return values.round()

    @staticmethod
    def backward(_, __):
        raise NotImplementedError("no\nderivative")


def test_an_operation_without_a_derivative_is_refused_in_one_line():
    batch = Batch(data=[torch.ones(3, 1), torch.zeros(3)], valid=3)
    with pytest.raises(LandscapeError, match="NotImplementedError: no derivative") as caught:
        check_differentiable(
            lambda model, data: Rounded.apply(squared_error(model, data)), line_network([1.0]), batch
        )
    assert "\n" not in str(caught.value)


def test_a_loss_with_a_gradient_is_taken():
    resident = make_resident("train", images(5), batch_size=4, device=CPU, dtype=torch.float32)
    check_differentiable(cross_entropy, small_resnet(), resident.batches[0])
    check_differentiable(
        lambda model, batch: F.cross_entropy(model(batch[0]), batch[1], reduction="none"),
        small_resnet(),
        resident.batches[1],
    )
