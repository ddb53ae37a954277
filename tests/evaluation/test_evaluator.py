import copy
import itertools
import threading
import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.evaluator import Evaluator
from mpi_landscape.evaluation.sums import add_in_order, example_sums
from mpi_landscape.geometry.directions import random_direction
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.geometry.normalization import normalize
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.resident import make_resident
from mpi_landscape.problem.networks.resnet import resnet

CPU = torch.device("cpu")
# Neither square nor symmetric: a transposed or mirrored axis must fail.
POINTS = [(alpha, beta) for alpha in (-1.0, 0.25, 0.0, 1.5) for beta in (0.0, -0.75, 0.5)]


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


def squared_error(model, batch):
    return (model(batch[0]).squeeze(1) - batch[1]) ** 2


def tensors_of(model, buffers=()):
    """What a flat vector holds, by PyTorch's own account."""
    return [parameter.detach() for parameter in model.parameters()] + [
        model.get_buffer(name) for name in buffers
    ]


def flat(model, buffers=()):
    return torch.cat([tensor.reshape(-1) for tensor in tensors_of(model, buffers)])


def drawn(size, count=2, scale=0.1):
    generator = torch.Generator().manual_seed(17)
    return [scale * torch.randn(size, generator=generator) for _ in range(count)]


def evaluator_of(model, loss, directions=None, *, buffers=(), **settings):
    layout = layout_of(model, normalization_buffers=bool(buffers))
    center = flat(model, buffers)
    if directions is None:
        directions = drawn(len(center))
    return Evaluator(model, loss, layout, center, directions, device=CPU, **settings)


def batches_of(examples, batch_size, dtype=torch.float32):
    return make_resident("train", examples, batch_size=batch_size, device=CPU, dtype=dtype).batches


def plain_float64(model, loss, examples, directions, point, buffers=()):
    """Mean loss and number of correct: every tensor set by hand, all examples at once, float64."""
    network = copy.deepcopy(model).double().eval()
    start = 0
    with torch.no_grad():
        for tensor in tensors_of(network, buffers):
            stop = start + tensor.numel()
            for coordinate, direction in zip(point, directions, strict=True):
                tensor += coordinate * direction[start:stop].double().reshape(tensor.shape)
            start = stop
        inputs = torch.stack([each for each, _ in examples])
        inputs = inputs.double() if inputs.is_floating_point() else inputs
        result = loss(network, [inputs, torch.as_tensor([label for _, label in examples])])
    return result["loss"].mean().item(), int(result["correct"].sum())


def small_resnet():
    torch.manual_seed(5)
    model = resnet(depth=8, width=4, input_size=(3, 8, 8), num_classes=5)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(std=0.2)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return model


def images(count=37):
    generator = torch.Generator().manual_seed(2)
    return [(torch.randn(3, 8, 8, generator=generator), index % 5) for index in range(count)]


def line_network(weights):
    model = nn.Linear(len(weights), 1, bias=False)
    model.weight.data = torch.tensor([weights])
    return model


def quadratic(inputs, targets, weights, directions, alpha, beta):
    """mean((X (w + alpha d + beta e) - y)^2), multiplied out."""
    residual = inputs @ weights - targets
    first, second = inputs @ directions[0], inputs @ directions[1]
    return (
        residual @ residual
        + 2 * alpha * residual @ first
        + 2 * beta * residual @ second
        + alpha**2 * first @ first
        + 2 * alpha * beta * first @ second
        + beta**2 * second @ second
    ) / len(targets)


def test_a_quadratic_surface_is_its_closed_form_exactly_where_float32_is_exact():
    # Small integers and quarters: no operation rounds.
    inputs = np.array(
        [[1.0, -2.0, 3.0], [0.0, 4.0, 1.0], [2.0, 2.0, -1.0], [5.0, 0.0, 1.0], [-3.0, 1.0, 2.0]]
    )
    targets = np.array([1.0, -2.0, 0.0, 3.0, 2.0])
    weights, directions = np.array([1.0, -2.0, 4.0]), np.array([[2.0, 0.0, -1.0], [1.0, 3.0, 1.0]])
    examples = [(torch.tensor(x), y) for x, y in zip(inputs, targets, strict=True)]
    vectors = [torch.tensor(direction, dtype=torch.float32) for direction in directions]
    with evaluator_of(line_network(weights.tolist()), squared_error, vectors, threads=2) as evaluator:
        sums = evaluator.tile([batches_of(examples, 2)], POINTS)
    for (alpha, beta), (total, correct, count, _) in zip(POINTS, sums, strict=True):
        assert total / count == quadratic(inputs, targets, weights, directions, alpha, beta)
        assert count == 5
        assert np.isnan(correct)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_a_quadratic_surface_is_its_closed_form_to_rounding(dtype, tolerance):
    # Rounding: 1.2e-7 and 2.2e-16, times some ten operations and the cancellation of a residual.
    generator = np.random.default_rng(3)
    inputs, targets = generator.normal(size=(53, 7)).astype("f"), generator.normal(size=53).astype("f")
    weights, directions = generator.normal(size=7).astype("f"), generator.normal(size=(2, 7)).astype("f")
    examples = list(zip(torch.from_numpy(inputs), targets, strict=True))
    model = line_network(weights.tolist())
    vectors = list(torch.from_numpy(directions))
    with evaluator_of(model, squared_error, vectors, dtype=dtype, threads=3) as evaluator:
        sums = evaluator.tile([batches_of(examples, 8, dtype)], POINTS)
    exact = [array.astype(np.float64) for array in (inputs, targets, weights, directions)]
    expected = [quadratic(*exact, *point) for point in POINTS]
    np.testing.assert_allclose(sums[:, 0] / sums[:, 2], expected, rtol=tolerance)


def test_a_residual_network_is_that_of_pytorch_in_float64_at_every_point():
    model, examples = small_resnet(), images()
    directions = drawn(len(flat(model)))
    with evaluator_of(model, cross_entropy, directions, threads=2) as evaluator:
        sums = evaluator.tile([batches_of(examples, 16)], POINTS)
    for point, (total, correct, count, _) in zip(POINTS, sums, strict=True):
        loss, right = plain_float64(model, cross_entropy, examples, directions, point)
        assert total / count == pytest.approx(loss, rel=1e-5)  # a hundred float32 operations in a row
        assert correct == right
        assert count == 37
    assert len(set(sums[:, 0])) == len(POINTS)


class Recurrent(nn.Module):
    """Keeps its weights twice: as attributes and in a list of its own (nn.LSTM does)."""

    def __init__(self):
        super().__init__()
        self.cells = nn.LSTM(4, 6, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 3)

    def forward(self, sequences):
        return self.head(self.cells(sequences)[0][:, -1])


class Attentive(nn.Module):
    """PyTorch takes another path through a transformer's layer when nothing needs a gradient."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, dim_feedforward=8, batch_first=True)
        self.head = nn.Linear(4, 3)

    def forward(self, sequences):
        return self.head(self.layer(sequences).mean(dim=1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Embedding(3, 5)
        self.decoder = nn.Linear(5, 3)
        self.decoder.weight = self.encoder.weight

    def forward(self, tokens):
        return self.decoder(self.encoder(tokens))


def transposed():
    return nn.Sequential(
        nn.Unflatten(1, (2, 5, 2)), nn.ConvTranspose2d(2, 4, 3, groups=2), nn.Flatten(), nn.LazyLinear(3)
    )


def weight_normalized():
    linear = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    return nn.Sequential(linear, nn.Flatten(), nn.Linear(15, 3))


@pytest.mark.parametrize("build", [Recurrent, Attentive, Tied, transposed, weight_normalized])
def test_layers_with_weights_of_their_own_kind_move(build):
    torch.manual_seed(11)
    model = build()
    generator = torch.Generator().manual_seed(4)
    examples = [(torch.randn(5, 4, generator=generator), index % 3) for index in range(13)]
    if build is transposed:
        examples = [(inputs.reshape(20), label) for inputs, label in examples]
        model(examples[0][0][None])
    if build is Tied:
        examples = [(torch.tensor(index % 2), label) for index, (_, label) in enumerate(examples)]
    directions = drawn(len(flat(model)), scale=0.5)
    with evaluator_of(model, cross_entropy, directions, threads=2) as evaluator:
        sums = evaluator.tile([batches_of(examples, 4)], [(0.5, -1.0), (0.0, 0.0), (1.0, 0.0)])
    for point, (total, _, count, _) in zip([(0.5, -1.0), (0.0, 0.0), (1.0, 0.0)], sums, strict=True):
        loss, _ = plain_float64(model, cross_entropy, examples, directions, point)
        assert total / count == pytest.approx(loss, rel=1e-5)


def test_running_statistics_move_when_they_count_as_parameters():
    model, examples = small_resnet(), images()
    names = [name for name, _ in model.named_buffers() if "running" in name]
    directions = drawn(len(flat(model, names)), scale=0.03)
    points = [(0.0, 0.0), (1.0, -0.5)]
    with evaluator_of(model, cross_entropy, directions, buffers=names, threads=2) as evaluator:
        sums = evaluator.tile([batches_of(examples, 16)], points)
    size = len(flat(model))
    still = [torch.cat([direction[:size], torch.zeros(len(direction) - size)]) for direction in directions]
    for point, (total, _, count, _) in zip(points, sums, strict=True):
        loss, _ = plain_float64(model, cross_entropy, examples, directions, point, names)
        assert total / count == pytest.approx(loss, rel=1e-5)
    without, _ = plain_float64(model, cross_entropy, examples, still, points[1], names)
    assert abs(without - loss) > 1e-3 * loss  # they matter at that point


@pytest.mark.parametrize("threads", [2, 3])
def test_sums_have_the_same_bits_for_any_number_of_threads(threads):
    model, batches = small_resnet(), batches_of(images(), 5)
    with (
        evaluator_of(model, cross_entropy) as one,
        evaluator_of(model, cross_entropy, threads=threads) as many,
    ):
        for point in POINTS[:4]:
            one.move(*point)
            many.move(*point)
            expected = one.batch_sums(batches)
            assert expected.dtype == np.float64
            for _ in range(3):
                assert many.batch_sums(batches).tobytes() == expected.tobytes()


def test_a_tile_has_the_same_bits_alone_or_among_others_of_its_batches():
    with evaluator_of(small_resnet(), cross_entropy, threads=2) as evaluator:
        batches = batches_of(images(), 5)
        whole = evaluator.batch_sums(batches)
        parts = [evaluator.batch_sums(batches[:3]), evaluator.batch_sums(batches[3:])]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_back_at_the_center_the_loss_is_that_of_the_plain_network_bit_for_bit():
    model, batches = small_resnet(), batches_of(images(), 16)
    expected = []
    network = copy.deepcopy(model).eval()
    with torch.no_grad():
        for batch in batches:
            result = cross_entropy(network, batch.data)
            losses = result["loss"][: batch.valid].double()
            correct = result["correct"][: batch.valid].sum().item()
            expected.append([losses.sum().item(), correct, batch.valid, (losses * losses).sum().item()])
    with evaluator_of(model, cross_entropy, threads=2) as evaluator:
        for point in [(0.3, -0.7), (1e30, 1e38), (np.nan, 0.0), (np.inf, 1.0)]:
            evaluator.move(*point)
            evaluator.batch_sums(batches)
            evaluator.move(0.0, 0.0)
            assert evaluator.batch_sums(batches).tolist() == expected
            assert torch.equal(flat(evaluator.network), flat(model))


def test_a_coordinate_of_zero_leaves_its_direction_out():
    model = line_network([1.0, 2.0])
    directions = [torch.tensor([1.0, 1.0]), torch.tensor([torch.inf, torch.nan])]
    with evaluator_of(model, squared_error, directions) as evaluator:
        evaluator.move(2.0, -0.0)
        assert evaluator.network.weight.tolist() == [[3.0, 4.0]]
        evaluator.move(2.0)
        assert evaluator.network.weight.tolist() == [[3.0, 4.0]]
        evaluator.move()
        assert evaluator.network.weight.tolist() == [[1.0, 2.0]]


def test_a_coordinate_without_a_direction_is_refused():
    with evaluator_of(line_network([1.0]), squared_error, [torch.ones(1)]) as evaluator:
        evaluator.move(0.5, 0.0)  # what a line's grid gives
        with pytest.raises(LandscapeError, match="one coordinate per direction") as caught:
            evaluator.move(0.5, 0.25)
    assert "\n" not in str(caught.value)


def test_a_step_of_one_changes_every_filter_by_a_vector_of_the_filters_own_norm():
    model = small_resnet()
    layout, center = layout_of(model), flat(model)
    for seed in (1, 2):
        direction = normalize(random_direction(layout, seed=seed), center, layout, how="filter")
        with evaluator_of(model, cross_entropy, [direction], dtype=torch.float64) as evaluator:
            evaluator.move(1.0)
            for before, after in zip(model.parameters(), evaluator.network.parameters(), strict=True):
                old, new = before.detach().double(), after.detach()
                groups = [(old, new)] if old.ndim == 1 else zip(old, new, strict=True)
                for filter_before, filter_after in groups:
                    step = (filter_after - filter_before).norm().item()
                    # A direction is rounded to float32.
                    assert step == pytest.approx(filter_before.norm().item(), rel=1e-6)


def test_the_padding_of_the_last_batch_is_never_counted():
    # The last item, which the padding repeats, has a loss that no other sum can hide.
    examples = [(torch.tensor([value]), 0.0) for value in (1.0, 2.0, 4.0, 8.0, 1024.0)]
    for batch_size, expected in ((2, [[5.0, 2], [80.0, 2], [2.0**20, 1]]), (4, [[85.0, 4], [2.0**20, 1]])):
        batches = batches_of(examples, batch_size)
        assert all(len(batch.data[0]) == batch_size for batch in batches)
        with evaluator_of(line_network([1.0]), squared_error, [torch.ones(1)], threads=2) as evaluator:
            assert evaluator.batch_sums(batches)[:, [0, 2]].tolist() == expected


def test_padding_counts_no_correct_answer():
    network = nn.Identity()
    network.weight = nn.Parameter(torch.ones(1))
    examples = [(torch.tensor([0.0, 1.0]), 1)] * 5
    with evaluator_of(network, cross_entropy, [torch.ones(1)]) as evaluator:
        assert evaluator.batch_sums(batches_of(examples, 3))[:, 1].tolist() == [3, 2]


class Forgetful(nn.Module):
    """Keeps its input on itself, and gives another thread time to overwrite it."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.part = nn.Identity()

    def forward(self, inputs):
        self.kept, self.part.kept = inputs, inputs
        time.sleep(0.002)
        return self.weight * (self.kept + self.part.kept) / 2


def test_a_network_that_keeps_state_on_itself_is_safe_under_threads():
    examples = [(torch.tensor([float(index)]), 0.0) for index in range(24)]
    with evaluator_of(Forgetful(), squared_error, [torch.ones(1)], threads=3) as evaluator:
        sums = evaluator.tile([batches_of(examples, 1)], [(0.0,), (1.0,)])
    squares = sum(index**2 for index in range(24))
    assert sums[:, 0].tolist() == [squares, 4 * squares]


def test_the_answer_does_not_depend_on_what_form_the_loss_has():
    examples = images(7)

    def run(form):
        with evaluator_of(small_resnet(), form) as evaluator:
            return evaluator.batch_sums(batches_of(examples, 4))

    both = run(cross_entropy)
    plain = run(lambda model, batch: cross_entropy(model, batch)["loss"])
    alone = run(lambda model, batch: {"loss": cross_entropy(model, batch)["loss"], "correct": None})
    assert both[:, 1].tolist() == [int(value) for value in both[:, 1]]
    for other in (plain, alone):
        assert np.isnan(other[:, 1]).all()
        assert other[:, [0, 2]].tolist() == both[:, [0, 2]].tolist()


def test_batches_may_be_mappings():
    examples = images(7)
    named = [{"image": image, "label": label, "name": f"item {label}"} for image, label in examples]

    def loss(model, batch):
        assert len(batch["name"]) == len(batch["label"])
        return cross_entropy(model, [batch["image"], batch["label"]])

    with evaluator_of(small_resnet(), loss) as ours, evaluator_of(small_resnet(), cross_entropy) as other:
        mapped = ours.batch_sums(batches_of(named, 4))
        assert mapped.tolist() == other.batch_sums(batches_of(examples, 4)).tolist()


def test_nan_and_infinity_are_results_and_stay_where_they_arise():
    examples = [(torch.tensor([value]), 0.0) for value in (1.0, torch.nan, 3.0, torch.inf, 5.0)]
    with evaluator_of(line_network([1.0]), squared_error, [torch.ones(1)], threads=2) as evaluator:
        sums = evaluator.batch_sums(batches_of(examples, 1))
        np.testing.assert_array_equal(sums[:, 0], [1, np.nan, 9, np.inf, 25])
        finite = batches_of([examples[0], examples[2]], 1)
        far = evaluator.tile([finite], [(0.0,), (np.inf,), (np.nan,), (1e30,), (-1.0,), (1.0,)])
    np.testing.assert_array_equal(far[:, 0], [10, np.inf, np.nan, np.inf, 0, 40])
    assert far[:, 2].tolist() == [2] * 6


def test_losses_beyond_float32_are_added_in_float64():
    # 2^24 + 1 is no float32.
    examples = [(torch.tensor([4096.0]), 0.0), (torch.tensor([1.0]), 0.0)]
    with evaluator_of(line_network([1.0]), squared_error, [torch.ones(1)]) as evaluator:
        for batch_size in (1, 2):
            assert evaluator.tile([batches_of(examples, batch_size)], [(0.0,)])[0, 0] == 2**24 + 1


def test_the_model_is_left_untouched():
    model, examples = small_resnet(), images(8)
    model.train()
    model.bn1.eval()
    model.conv1.weight.requires_grad_(False)
    model(torch.stack([image for image, _ in examples])).sum().backward()
    before = copy.deepcopy(model.state_dict())
    storage = [tensor.data_ptr() for tensor in itertools.chain(model.parameters(), model.buffers())]
    flags = [module.training for module in model.modules()]
    gradient = model.linear.weight.grad.clone()
    center = flat(model)
    kept = center.clone()
    layout = layout_of(model)
    with Evaluator(
        model, cross_entropy, layout, center, drawn(len(center)), device=CPU, dtype=torch.float32, threads=2
    ) as evaluator:
        evaluator.tile([batches_of(examples, 3)], POINTS[:3])
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    assert storage == [tensor.data_ptr() for tensor in itertools.chain(model.parameters(), model.buffers())]
    assert flags == [module.training for module in model.modules()]
    assert torch.equal(model.linear.weight.grad, gradient)
    assert [p.requires_grad for p in model.parameters()].count(False) == 1
    assert torch.equal(center, kept)


def test_evaluation_mode_is_used_whatever_the_models_own():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 1)).train()
    examples = [(torch.ones(4), 0.0)] * 6
    with evaluator_of(model, squared_error, threads=2) as evaluator:
        sums = evaluator.batch_sums(batches_of(examples, 2))
    assert sums[0, 0] > 0
    assert (sums[:, 0] == sums[0, 0]).all()


def test_what_the_network_raises_in_any_thread_reaches_the_caller():
    main = threading.get_ident()
    for guilty in (True, False):

        def loss(model, batch, guilty=guilty):
            if (threading.get_ident() == main) == guilty:
                raise ZeroDivisionError("in a thread")
            time.sleep(0.001)
            return squared_error(model, batch)

        batches = batches_of([(torch.ones(1), 0.0)] * 200, 1)
        with evaluator_of(line_network([1.0]), loss, [torch.ones(1)], threads=3) as evaluator:
            with pytest.raises(ZeroDivisionError, match="in a thread"):
                evaluator.batch_sums(batches)
            with pytest.raises(ZeroDivisionError, match="in a thread"):
                evaluator.batch_sums(batches)


def test_after_an_error_in_one_thread_the_others_do_not_finish_the_pass():
    calls = []
    main = threading.get_ident()

    def loss(model, batch):
        calls.append(None)
        if threading.get_ident() != main:
            raise ZeroDivisionError
        time.sleep(0.005)
        return squared_error(model, batch)

    batches = batches_of([(torch.ones(1), 0.0)] * 300, 1)
    ours = evaluator_of(line_network([1.0]), loss, [torch.ones(1)], threads=2)
    with ours as evaluator, pytest.raises(ZeroDivisionError):
        evaluator.batch_sums(batches)
    assert len(calls) < 100


class StopNowError(BaseException):
    """As KeyboardInterrupt: no Exception."""


@pytest.mark.parametrize("threads", [1, 3])
def test_what_between_raises_stops_at_once_and_the_evaluator_goes_on_afterwards(threads):
    calls, asked = [], []

    def loss(model, batch):
        calls.append(None)
        time.sleep(0.001)
        return squared_error(model, batch)

    def between():
        asked.append(threading.get_ident())
        if len(asked) == 2:
            raise StopNowError

    batches = batches_of([(torch.tensor([float(index)]), 0.0) for index in range(300)], 1)
    with evaluator_of(line_network([1.0]), loss, [torch.ones(1)], threads=threads) as evaluator:
        with pytest.raises(StopNowError):
            evaluator.tile([batches], [(1.0,), (2.0,)], between)
        assert len(calls) < 100
        assert asked == [threading.get_ident()] * 2
        done = len(calls)
        time.sleep(0.02)
        assert len(calls) == done  # nobody works on
        sums = evaluator.tile([batches], [(0.0,)], lambda: None)
    assert sums[0].tolist()[::2] == [sum(index**2 for index in range(300)), 300]


def test_between_is_called_after_every_batch_of_a_single_thread():
    asked = []
    batches = batches_of([(torch.ones(1), 0.0)] * 7, 2)
    with evaluator_of(line_network([1.0]), squared_error, [torch.ones(1)]) as evaluator:
        evaluator.tile([batches], [(1.0,), (2.0,)], lambda: asked.append(None))
    assert len(asked) == 2 * 4


def test_the_callers_number_of_threads_stays_as_it_is():
    torch.set_num_threads(2)
    with evaluator_of(small_resnet(), cross_entropy, threads=2) as evaluator:
        evaluator.batch_sums(batches_of(images(6), 2))
        assert torch.get_num_threads() == 2


def test_more_threads_than_batches_do_no_harm():
    with evaluator_of(line_network([2.0]), squared_error, [torch.ones(1)], threads=8) as evaluator:
        assert evaluator.batch_sums(batches_of([(torch.ones(1), 0.0)], 4))[:, 0].tolist() == [4]


def test_the_network_is_computed_in_the_precision_that_was_asked_for():
    kinds = set()

    def loss(model, batch):
        outputs = model(batch[0])
        kinds.update([batch[0].dtype, outputs.dtype, *(tensor.dtype for tensor in model.parameters())])
        return cross_entropy(nn.Identity(), [outputs, batch[1]])

    with evaluator_of(small_resnet(), loss, dtype=torch.float64, threads=2) as evaluator:
        evaluator.tile([batches_of(images(6), 2, torch.float64)], [(0.5, 0.5)])
    assert kinds == {torch.float64}


class Uncopiable(nn.Linear):
    def __deepcopy__(self, memo):
        raise RuntimeError("no\ncopies\n" * 200)


def test_a_model_that_cannot_be_copied_is_refused_in_one_line():
    with pytest.raises(
        LandscapeError, match=r"Uncopiable cannot be copied .*no copies.*copy\.deepcopy"
    ) as caught:
        evaluator_of(Uncopiable(1, 1, bias=False), squared_error, [torch.ones(1)])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_rows_are_added_one_after_the_other():
    # 1e16 + 1 is 1e16: only this order gives 1; a pairwise sum of many rows gives another number.
    rows = np.array([[1e16, 0.0], [1.0, 1.0], [-1e16, np.inf], [1.0, -np.inf]])
    total, undefined = add_in_order(rows)
    assert total == 1
    assert np.isnan(undefined)
    many = np.random.default_rng(0).normal(size=(1000, 3))
    expected = [0.0, 0.0, 0.0]
    for row in many.tolist():
        expected = [left + right for left, right in zip(expected, row, strict=True)]
    assert add_in_order(many).tolist() == expected


def test_only_the_valid_examples_of_a_result_are_summed():
    result = {"loss": torch.tensor([1.0, 2.0, torch.nan]), "correct": torch.tensor([True, False, True])}
    assert example_sums(result, 2).tolist() == [3, 1, 2, 5]
    assert example_sums(result["loss"].half(), 2).dtype == torch.float64


def test_a_loss_may_ask_for_gradients_of_its_own():
    # A physics-informed loss differentiates the network by its input.
    def loss(model, batch):
        with torch.enable_grad():
            inputs = batch[0].clone().requires_grad_(True)
            (slope,) = torch.autograd.grad(model(inputs).sum(), inputs, create_graph=True)
            return slope.squeeze(1) ** 2

    batches = [Batch(data=[torch.ones(3, 1)], valid=3)] * 3
    with evaluator_of(line_network([3.0]), loss, [torch.ones(1)], threads=2) as evaluator:
        assert evaluator.tile([batches], [(0.0,), (1.0,)])[:, 0].tolist() == [81, 144]


def ranked(model, batch):
    """As `cross_entropy`, and two further numbers per example: a truth value and a negative log-likelihood."""
    outputs = model(batch[0])
    result = cross_entropy(nn.Identity(), [outputs, batch[1]])
    best = outputs.topk(3, dim=1).indices
    return {
        **result,
        "top3": (best == batch[1][:, None]).any(dim=1),
        "nll": result["loss"],
        "unused": result["loss"],
    }


@pytest.mark.parametrize(("threads", "at_once"), [(1, 1), (3, 1), (3, 2)])
def test_further_numbers_of_a_loss_are_summed_and_leave_the_bits_of_the_others(threads, at_once):
    model, examples = small_resnet(), images()
    batches = batches_of(examples, 5)
    with evaluator_of(model, cross_entropy) as evaluator:
        expected = evaluator.tile([batches], POINTS)
    settings = {"threads": threads, "points_at_once": at_once, "returned": ("top3", "nll")}
    with evaluator_of(model, ranked, **settings) as evaluator:
        sums = evaluator.tile([batches[:3], batches[3:]], POINTS)
        assert evaluator.tile([], POINTS).shape == sums.shape == (len(POINTS), 6)
    assert np.ascontiguousarray(sums[:, :4]).tobytes() == expected.tobytes()
    assert sums[:, 5].tobytes() == expected[:, 0].tobytes()
    labels = torch.tensor([label for _, label in examples])
    network = copy.deepcopy(model).eval()
    with torch.no_grad():
        outputs = network(torch.stack([image for image, _ in examples]))
    center = POINTS.index((0.0, 0.0))
    right = (outputs.topk(3, dim=1).indices == labels[:, None]).any(dim=1)
    assert sums[center, 4] == int(right.sum())
    assert sums[center, 1] < sums[center, 4] < 37


def test_a_further_number_that_is_missing_for_a_batch_is_refused_by_name():
    def loss(model, batch):
        losses = squared_error(model, batch)
        return {"loss": losses, "norm": losses} if batch[0][0, 0] > 0 else losses

    batches = batches_of([(torch.tensor([value]), 0.0) for value in (1.0, 2.0, -1.0)], 1)
    ours = evaluator_of(line_network([1.0]), loss, [torch.ones(1)], returned=("norm",))
    with ours as evaluator, pytest.raises(LandscapeError, match="no 'norm'"):
        evaluator.batch_sums(batches)
