import copy
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.grouping import SHORT, check_grouping, is_rounding
from mpi_landscape.evaluation.plain import check_plain, plain_sums
from mpi_landscape.evaluation.premises import (
    RESERVED,
    Returned,
    call_loss,
    check_loss,
    check_repeatable,
    check_rereading,
)
from mpi_landscape.evaluation.sums import add_in_order
from mpi_landscape.loading.batches import Batch
from mpi_landscape.loading.resident import make_resident

CPU = torch.device("cpu")


def cross_entropy(model, batch):
    outputs = model(batch[0])
    return {
        "loss": F.cross_entropy(outputs, batch[1], reduction="none"),
        "correct": outputs.argmax(dim=1) == batch[1],
    }


def examples(count=11):
    generator = torch.Generator().manual_seed(6)
    return [(torch.randn(4, generator=generator), index % 3) for index in range(count)]


def resident_of(data, batch_size=4, dtype=torch.float32):
    return make_resident("train", data, batch_size=batch_size, device=CPU, dtype=dtype)


def network(*layers):
    torch.manual_seed(8)
    return nn.Sequential(*layers, nn.Linear(4, 3)).eval()


def refusal(check, *arguments, **settings):
    """The one line that a check refuses with."""
    with pytest.raises(LandscapeError) as caught:
        check(*arguments, **settings)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_loss_that_raises_is_told_in_one_line_with_the_shapes_of_its_batch():
    batch = resident_of([{"image": torch.zeros(5), "text": "a"}] * 4, 2).batches[0]

    def loss(model, batch):
        return model(batch["image"])

    message = refusal(call_loss, loss, network(), batch)
    for word in ("loss:", "image (2, 5)", "RuntimeError", "shapes"):
        assert word in message
    tensor = Batch(data=torch.zeros(2, 5), valid=2)
    assert "batch (2, 5)" in refusal(call_loss, lambda model, batch: model(batch), network(), tensor)


def test_a_refusal_of_the_loss_itself_keeps_its_words():
    def loss(model, batch):
        raise LandscapeError("in the loss's own words")

    assert (
        refusal(call_loss, loss, network(), resident_of(examples()).batches[0]) == "in the loss's own words"
    )


def test_a_loss_is_called_without_gradients():
    result = call_loss(cross_entropy, network(), resident_of(examples()).batches[0])
    assert not result["loss"].requires_grad


VALUES = torch.zeros(4)


@pytest.mark.parametrize(
    ("result", "tells_correct"),
    [
        (VALUES, False),
        (VALUES.double(), False),
        (VALUES.bfloat16(), False),
        (VALUES + torch.nan, False),
        ({"loss": VALUES}, False),
        ({"loss": VALUES, "correct": None}, False),
        ({"loss": VALUES, "correct": VALUES > 0}, True),
        ({"loss": VALUES, "correct": VALUES, "more": VALUES}, True),
    ],
)
def test_a_loss_of_one_number_per_example_is_taken(result, tells_correct):
    assert check_loss(result, 4).accuracy is tells_correct


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (torch.tensor(1.0), ["shape ()", "4 examples", "(4,)", "reduction='none'"]),
        (VALUES[:3], ["shape (3,)", "(4,)"]),
        (VALUES[:, None], ["shape (4, 1)", "(4,)"]),
        (torch.zeros(4, 3, 3), ["shape (4, 3, 3)", "one value per example"]),
        (1.5, ["float", "tensor", "(4,)"]),
        (np.zeros(4), ["ndarray", "tensor"]),
        ([0.0] * 4, ["list", "tensor"]),
        (None, ["NoneType", "tensor"]),
        ((VALUES, VALUES), ["tuple", "tensor"]),
        (VALUES.long(), ["torch.int64", "floating-point"]),
        (VALUES > 0, ["torch.bool", "floating-point"]),
        (VALUES.to(torch.complex64), ["torch.complex64", "floating-point"]),
        ({}, ["without 'loss'", "nothing"]),
        ({"value": VALUES, 3: VALUES}, ["without 'loss'", "'value', 3"]),
        ({"loss": VALUES.sum()}, ["shape ()", "reduction='none'"]),
        ({"loss": {"loss": VALUES}}, ["dict", "tensor"]),
        ({"loss": VALUES, "correct": torch.tensor(2)}, ["'correct'", "shape ()"]),
        ({"loss": VALUES, "correct": 2}, ["'correct'", "int", "tensor"]),
        ({"loss": VALUES, "correct": VALUES[:2]}, ["'correct'", "shape (2,)"]),
    ],
)
def test_anything_else_is_refused_with_what_it_is(result, words):
    message = refusal(check_loss, result, 4)
    assert message.startswith("loss: ")
    for word in words:
        assert word in message


def test_further_numbers_per_example_are_told_by_name_in_an_order_of_their_own():
    result = {
        "top5": VALUES > 0,
        "loss": VALUES,
        "nll": VALUES.double(),
        "correct": VALUES > 0,
        "rank": VALUES.long(),
    }
    assert check_loss(result, 4) == Returned(accuracy=True, further=("nll", "rank", "top5"))
    turned = dict(reversed(result.items()))
    assert check_loss(turned, 4) == check_loss(result, 4)
    assert check_loss({"loss": VALUES, "nll": None}, 4) == Returned(accuracy=False, further=())


@pytest.mark.parametrize(
    ("name", "value", "words", "reason"),
    [
        ("top5", VALUES[:2], ["top5 has shape (2,)", "(4,)"], "for some of the examples"),
        ("top5", VALUES.sum(), ["top5 has shape ()"], "for all examples together"),
        ("logits", torch.zeros(4, 3), ["logits has shape (4, 3)"], "several numbers per example"),
        ("top5", 3, ["top5 is a int", "tensor"], "no tensor"),
        ("top5", "text", ["top5 is a str", "tensor"], "no number"),
        ("phase", VALUES.to(torch.complex64), ["phase", "complex64", "real"], "not real"),
        ("top-5", VALUES, ["'top-5'", "letters"], "no name of a dataset"),
        ("5", VALUES, ["'5'", "begin with a digit"], "a number"),
        ("", VALUES, ["''"], "nothing"),
        ("train/nll", VALUES, ["'train/nll'"], "a place in a file"),
        (3, VALUES, ["3", "letters"], "no text"),
        *((name, VALUES, [repr(name), "not accuracy, examples, loss_sum"], "taken") for name in RESERVED),
    ],
)
def test_further_numbers_that_cannot_be_kept_are_refused_with_what_is_valid(name, value, words, reason):
    message = refusal(check_loss, {"loss": VALUES, name: value}, 4)
    assert message.startswith("loss: "), reason
    for word in words:
        assert word in message, reason


def test_the_plain_network_sums_further_numbers_too():
    def loss(model, batch):
        result = cross_entropy(model, batch)
        return {**result, "twice": 2 * result["loss"], "label": batch[1]}

    batches = resident_of(examples(), 4, torch.float64).batches
    plain = plain_sums(network(), cross_entropy, batches, device=CPU, dtype=torch.float64)
    more = plain_sums(network(), loss, batches, device=CPU, dtype=torch.float64, returned=("twice", "label"))
    assert more[:, :4].tobytes() == plain.tobytes()
    assert more[:, 4] == pytest.approx(2 * plain[:, 0], rel=1e-15)
    assert more[:, 5].tolist() == [0 + 1 + 2 + 0, 1 + 2 + 0 + 1, 2 + 0 + 1]


def test_a_network_that_answers_the_same_again_is_taken():
    check_repeatable(cross_entropy, network(nn.BatchNorm1d(4)), resident_of(examples()).batches[0])


def test_a_loss_of_nan_may_repeat_itself():
    data = [(torch.tensor([torch.nan, 0, 0, 0]), 1), *examples()]
    check_repeatable(cross_entropy, network(), resident_of(data).batches[0])


class DropoutLeftOn(nn.Module):
    def forward(self, inputs):
        return F.dropout(inputs, 0.5, training=True)


class Counting(nn.Module):
    calls = 0

    def forward(self, inputs):
        self.calls += 1
        return inputs * self.calls


@pytest.mark.parametrize("layer", [DropoutLeftOn, Counting])
def test_a_network_that_answers_something_else_is_refused(layer):
    torch.manual_seed(1)
    message = refusal(check_repeatable, cross_entropy, network(layer()), resident_of(examples()).batches[0])
    for word in ("model:", "two passes", "random", "dropout", "state"):
        assert word in message


def test_an_example_whose_loss_is_nan_does_not_hide_a_random_one():
    data = [(torch.full((4,), torch.nan), 1), *examples()]
    torch.manual_seed(1)
    message = refusal(check_repeatable, cross_entropy, network(DropoutLeftOn()), resident_of(data).batches[0])
    assert "two passes" in message
    assert "nan" not in message


def test_only_counted_examples_must_repeat_themselves():
    calls = []

    def loss(model, batch):
        calls.append(None)
        return torch.tensor([1.0, 2.0, float(len(calls))])

    check_repeatable(loss, network(), Batch(data=torch.zeros(3, 4), valid=2))
    assert len(calls) == 2


class Halving(nn.Module):
    def forward(self, inputs):
        return inputs.mul_(0.5)


@pytest.mark.parametrize("layer", [Halving(), nn.ReLU(inplace=True)])
def test_a_network_that_writes_into_its_input_is_refused(layer):
    batch = resident_of(examples()).batches[0]
    cross_entropy(network(layer), batch.data)  # a ReLU changes nothing the second time
    message = refusal(check_repeatable, cross_entropy, network(layer), batch)
    for word in ("model:", "input", "in place", "copy"):
        assert word in message


class Shuffled:
    """Gives item `index` of another order each time it is read through."""

    def __init__(self, items):
        self.items, self.reads = items, 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.reads += 1
        turn = (self.reads - 1) // len(self.items)
        return self.items[(index + turn) % len(self.items)]


class Augmented(Shuffled):
    def __getitem__(self, index):
        image, label = self.items[index]
        return (image + 0.01 * torch.randn(4), label) if index == 9 else (image, label)


class Renamed(Shuffled):
    def __getitem__(self, index):
        self.reads += 1
        return (f"text {self.reads}" if index == 9 else "text", index)


@pytest.mark.parametrize("kind", [Shuffled, Augmented, Renamed])
def test_a_data_set_that_is_another_on_a_second_reading_is_refused(kind):
    torch.manual_seed(3)
    data = kind(examples())
    message = refusal(check_rereading, resident_of(data), data, CPU, torch.float32)
    for word in ("data:", "'train'", "second reading", "shuffling", "augmentation"):
        assert word in message
    assert f"item {0 if kind is Shuffled else 9} " in message


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_a_data_set_that_stays_the_same_is_taken(batch_size, dtype):
    data = [
        {"image": image.double() / 3, "label": label, "text": f"{label}", "gap": torch.nan}
        for image, label in examples()
    ]
    check_rereading(resident_of(data, batch_size, dtype), data, CPU, dtype)


def test_a_large_data_set_is_read_again_from_its_first_to_its_last_item_but_not_as_a_whole():
    data = [(torch.tensor([float(index)]), 0) for index in range(3000)]
    resident = resident_of(data, 512)
    asked = []

    class Second:
        def __getitem__(self, index):
            asked.append(index)
            return data[index]

    check_rereading(resident, Second(), CPU, torch.float32)
    assert len(asked) == 1024
    assert asked[0] == 0
    assert asked[-1] == 2999
    assert max(np.diff(asked)) <= 3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)])
@pytest.mark.parametrize("batch_size", [1, 2, 4, 64])
def test_plain_sums_are_those_of_the_examples_one_by_one(batch_size, dtype, tolerance):
    model, data = network(nn.BatchNorm1d(4)), examples()
    batches = resident_of(data, batch_size, dtype).batches
    sums = plain_sums(model, cross_entropy, batches, device=CPU, dtype=dtype)
    exact = copy.deepcopy(model).double()
    with torch.no_grad():
        results = [
            cross_entropy(exact, [image.double()[None], torch.tensor([label])]) for image, label in data
        ]
    for row, start in enumerate(range(0, len(data), batch_size)):
        piece = results[start : start + batch_size]
        expected = [sum(each[name].item() for each in piece) for name in ("loss", "correct")]
        assert sums[row, 0] == pytest.approx(expected[0], rel=tolerance)
        assert sums[row, 1:3].tolist() == [expected[1], len(piece)]
        squares = sum(each["loss"].item() ** 2 for each in piece)
        assert sums[row, 3] == pytest.approx(squares, rel=2 * tolerance)


def test_plain_sums_leave_the_model_as_it_is():
    model = network(nn.BatchNorm1d(4)).train()
    before = copy.deepcopy(model.state_dict())
    batches = resident_of(examples(), dtype=torch.float64).batches
    plain_sums(model, cross_entropy, batches, device=CPU, dtype=torch.float64)
    assert model.training
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert model[1].weight.dtype == torch.float32


class BatchNormalized(nn.Module):
    """Normalises by the batch at hand, in evaluation mode, too."""

    def forward(self, inputs):
        return (inputs - inputs.mean(dim=0)) / (inputs.var(dim=0, unbiased=False) + 0.1).sqrt()


def mean_and_plain_mean(model, data, batch_size):
    batches = resident_of(data, batch_size).batches
    with torch.no_grad():
        results = [cross_entropy(model, batch.data)["loss"][: batch.valid] for batch in batches]
    plain = add_in_order(plain_sums(model, cross_entropy, batches, device=CPU, dtype=torch.float32))
    return torch.cat(results).double().mean().item(), plain[0] / plain[2]


@pytest.mark.parametrize(
    ("layer", "depends"),
    [
        (BatchNormalized(), True),
        (nn.BatchNorm1d(4, track_running_stats=False), True),
        (nn.BatchNorm1d(4), False),
        (nn.LayerNorm(4), False),
    ],
)
def test_a_loss_that_depends_on_its_batch_is_refused(layer, depends):
    engine, plain = mean_and_plain_mean(network(layer), examples(24), 8)
    if depends:
        message = refusal(check_plain, "test", engine, plain)
        for word in ("test", f"{engine:.9g}", f"{plain:.9g}", "must not depend", "batch"):
            assert word in message
    else:
        check_plain("test", engine, plain)


def test_a_network_that_cannot_take_one_example_is_refused_in_one_line():
    # The last batch has one example; torch's own words are an exception.
    batches = resident_of(examples(9), 8).batches
    model = network(nn.BatchNorm1d(4, track_running_stats=False))
    message = refusal(plain_sums, model, cross_entropy, batches, device=CPU, dtype=torch.float32)
    assert "0 (1, 4)" in message
    assert "more than 1 value per channel" in message


@pytest.mark.parametrize(
    ("engine", "plain", "same", "reason"),
    [
        (2.0, 2.0, True, "equal"),
        (2.0, 2.0000002, True, "float32 rounding"),
        (2.0, 2.01, False, "half a percent"),
        (2.01, 2.0, False, "the other way round"),
        (-2.0, 2.0, False, "a sign"),
        (0.0, 0.0, True, "nothing to learn any more"),
        (3e-7, 4.2e-7, True, "one step of float32 in a cross-entropy near zero"),
        (1e-3, 2e-3, False, "small but different"),
        (np.nan, np.nan, True, "NaN is a result"),
        (np.inf, np.inf, True, "so is infinity"),
        (np.nan, 2.0, False, "one only"),
        (2.0, np.nan, False, "one only"),
        (np.inf, 2.0, False, "one only"),
        (2.0, np.inf, False, "one only"),
        (-np.inf, np.inf, False, "opposite"),
        (np.nan, np.inf, False, "different"),
    ],
)
def test_the_engine_and_the_plain_network_must_agree(engine, plain, same, reason):
    if same:
        check_plain("train", engine, plain)
    else:
        assert "train" in refusal(check_plain, "train", engine, plain), reason


class Told:
    """Losses that are told, of two groupings."""

    def __init__(self, *losses):
        self._losses = [np.array(each) for each in losses]

    def at(self, point):
        return nullcontext()

    def losses_here(self, batches):
        return self._losses[batches[0]]


def test_in_16_bits_float32_decides_and_a_little_is_let_pass_where_there_is_none():
    one, other = np.array([1.0, 2.0]), np.array([1.0, 2.08])
    exact, near, far = np.array([1.0, 2.04]), np.array([1.0, 2.0401]), np.array([1.0, 2.05])
    assert is_rounding((one, other), (exact, near), SHORT) == pytest.approx(0.04)
    assert is_rounding((one, other), (exact, far), SHORT) is None
    assert is_rounding((one, other), (None, None), SHORT) == pytest.approx(0.04)
    assert is_rounding((one, 1.1 * other), (None, None), SHORT) is None
    assert is_rounding((one, other), (exact, near)) is None


@pytest.mark.parametrize(
    ("single", "double", "rounding", "reason"),
    [
        (([1.0, 2.0], [1.0, 2.00001]), None, 0.0, "as usual: nobody asks float64"),
        (([1.0, 2.0], [1.0, 2.002]), ([1.0, 2.001], [1.0, 2.001]), 1e-3, "float64 says that it is rounding"),
        (([1.0, 2.0], [1.0, 2.002]), ([1.0, 2.0], [1.0, 2.002]), None, "float64 shows it too"),
        (([1.0, 2.0], [1.0, 2.002]), ([1.0, 2.0], [1.0, 2.0000001]), None, "float64 shows some of it"),
        (([1.0, 2.0], [1.0, 2.002]), ([1.0, 3.0], [1.0, 3.0]), None, "float64 is something else"),
        (([1.0, 2.0], [1.0, 2.002]), (None, None), None, "there is no float64"),
        (([1.0, 2.0], [1.0, np.nan]), ([1.0, 2.0], [1.0, 2.0]), None, "a NaN is no rounding"),
    ],
)
def test_rounding_is_not_taken_for_a_dependence_and_a_dependence_not_for_rounding(
    single, double, rounding, reason
):
    def in_double(batches, point):
        found = double[batches[0]]
        return None if found is None else np.array(found)

    arguments = (Told(*single), [[0], [1]], [(0.0,)], [range(2), range(2)], in_double)
    if rounding is None:
        assert "must not depend" in refusal(check_grouping, *arguments), reason
    else:
        assert check_grouping(*arguments) == pytest.approx(rounding, rel=1e-3), reason
