import math
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import default_collate

from mpi_landscape.configuration.sections.sources import LossConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.losses import build_loss, check_targets


def build(name, **arguments):
    return build_loss(LossConfiguration(name=name, arguments=arguments), where="mine.yaml", folders=[])


class Fixed(nn.Module):
    """A network whose outputs are what it is given."""

    def forward(self, inputs):
        return inputs


OUTPUTS = torch.randn(7, 5, generator=torch.Generator().manual_seed(3))
LABELS = torch.tensor([0, 4, 2, 2, 1, 3, 0])


def loop(name, outputs, labels):
    """Each formula, written out in Python numbers, which are float64."""
    values = []
    for row, label in zip(outputs.tolist(), labels.tolist(), strict=True):
        if name == "cross_entropy":
            values.append(math.log(sum(math.exp(value - row[label]) for value in row)))
        elif name == "nll":
            values.append(-row[label])
        elif name == "mse":
            wanted = [float(index == label) for index in range(len(row))]
            values.append(sum((a - b) ** 2 for a, b in zip(row, wanted, strict=True)) / len(row))
        else:
            margins = [max(0.0, 1 - row[label] + value) for index, value in enumerate(row) if index != label]
            values.append(sum(margins) / len(row))
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("name", ["cross_entropy", "nll", "mse", "hinge"])
def test_a_loss_is_its_formula_for_each_example(name):
    result = build(name)(Fixed(), [OUTPUTS, LABELS])
    assert result["loss"].dtype == torch.float32
    # Rounding of float32, a few operations deep.
    torch.testing.assert_close(result["loss"].double(), loop(name, OUTPUTS, LABELS), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("cross_entropy", nn.CrossEntropyLoss(reduction="none")),
        ("nll", nn.NLLLoss(reduction="none")),
        ("hinge", nn.MultiMarginLoss(reduction="none")),
    ],
)
def test_a_loss_is_that_of_torch_without_reduction(name, reference):
    result = build(name)(Fixed(), [OUTPUTS.double(), LABELS])
    assert result["loss"].dtype == torch.float64
    torch.testing.assert_close(result["loss"], reference(OUTPUTS.double(), LABELS))


@pytest.mark.parametrize("name", ["cross_entropy", "nll", "mse", "hinge"])
def test_the_mean_over_batches_of_any_size_is_the_mean_over_all(name):
    loss = build(name)
    parts = [loss(Fixed(), [OUTPUTS[a:b], LABELS[a:b]])["loss"] for a, b in ((0, 3), (3, 4), (4, 7))]
    torch.testing.assert_close(torch.cat(parts), loss(Fixed(), [OUTPUTS, LABELS])["loss"])


def test_arguments_change_the_loss():
    smooth = build("cross_entropy", label_smoothing=0.25)(Fixed(), [OUTPUTS, LABELS])["loss"]
    expected = nn.CrossEntropyLoss(reduction="none", label_smoothing=0.25)(OUTPUTS, LABELS)
    torch.testing.assert_close(smooth, expected)
    wide = build("hinge", margin=3)(Fixed(), [OUTPUTS, LABELS])["loss"]
    torch.testing.assert_close(wide, nn.MultiMarginLoss(margin=3.0, reduction="none")(OUTPUTS, LABELS))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
@pytest.mark.parametrize("name", ["cross_entropy", "nll", "mse", "hinge"])
def test_labels_may_be_of_any_integer_type(name, dtype):
    result = build(name)(Fixed(), [OUTPUTS, LABELS.to(dtype)])
    torch.testing.assert_close(result["loss"], build(name)(Fixed(), [OUTPUTS, LABELS])["loss"])


def test_an_example_is_correct_if_its_label_has_the_largest_output():
    outputs = torch.tensor([[0.0, 2.0, 1.0], [5.0, 2.0, 1.0], [0.0, 2.0, 9.0], [-1.0, -2.0, -3.0]])
    result = build("cross_entropy")(Fixed(), [outputs, torch.tensor([1, 1, 2, 0])])
    assert result["correct"].tolist() == [True, False, True, True]


def test_no_label_is_correct_for_outputs_that_are_not_numbers():
    outputs = torch.full((3, 4), math.nan)
    result = build("cross_entropy")(Fixed(), [outputs, torch.tensor([0, 1, 3])])
    assert result["correct"].tolist() == [False, False, False]
    assert result["loss"].isnan().all()


def test_half_precision_outputs_are_summed_in_single_precision():
    outputs = OUTPUTS.bfloat16()
    result = build("cross_entropy")(Fixed(), [outputs, LABELS])["loss"]
    assert result.dtype == torch.float32
    torch.testing.assert_close(
        result.double(), loop("cross_entropy", outputs.double(), LABELS), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("outputs", "targets", "why"),
    [
        ((6, 3), (6, 3), "several outputs"),
        ((6, 2, 4), (6, 2, 4), "outputs with two axes"),
        ((6,), (6,), "one output, no axis"),
        ((6, 1), (6,), "one output with an axis: not a 6×6 matrix"),
        ((6,), (6, 1), "one target with an axis"),
    ],
)
def test_the_squared_error_of_real_targets_is_the_mean_over_the_outputs(outputs, targets, why):
    generator = torch.Generator().manual_seed(1)
    given, wanted = torch.randn(outputs, generator=generator), torch.randn(targets, generator=generator)
    result = build("mse")(Fixed(), [given, wanted])
    expected = [
        ((a - b) ** 2).mean() for a, b in zip(given.reshape(6, -1), wanted.reshape(6, -1), strict=True)
    ]
    torch.testing.assert_close(result["loss"], torch.stack(expected), msg=why)
    assert "correct" not in result


def test_a_batch_may_be_a_mapping_of_input_and_target():
    batch = default_collate(
        [{"input": row, "target": label} for row, label in zip(OUTPUTS, LABELS, strict=True)]
    )
    loss = build("cross_entropy")
    torch.testing.assert_close(loss(Fixed(), batch)["loss"], loss(Fixed(), (OUTPUTS, LABELS))["loss"])


@pytest.mark.parametrize("name", ["target", "targets", "label", "labels", "y"])
def test_a_mapping_may_call_its_target_as_people_do(name):
    found = build("cross_entropy")(Fixed(), {"x": OUTPUTS, name: LABELS})
    torch.testing.assert_close(found["loss"], F.cross_entropy(OUTPUTS, LABELS, reduction="none"))


def test_what_comes_before_the_target_goes_into_the_network():
    class Sum(nn.Module):
        def forward(self, first, second):
            return first + second

    wanted = F.cross_entropy(OUTPUTS + 1, LABELS, reduction="none")
    loss, one = build("cross_entropy"), torch.ones_like(OUTPUTS)
    torch.testing.assert_close(loss(Sum(), [OUTPUTS, one, LABELS])["loss"], wanted)
    torch.testing.assert_close(loss(Sum(), {"second": one, "first": OUTPUTS, "y": LABELS})["loss"], wanted)


@pytest.mark.parametrize("name", ["cross_entropy", "nll"])
def test_a_segmentation_has_the_mean_over_its_places(name):
    outputs, labels = torch.randn(4, 3, 5, 6), torch.randint(0, 3, (4, 5, 6))
    found = build(name)(Fixed(), [outputs, labels])
    each = {"cross_entropy": F.cross_entropy, "nll": F.nll_loss}[name](outputs, labels, reduction="none")
    torch.testing.assert_close(found["loss"], each.mean((1, 2)))
    torch.testing.assert_close(found["correct"], (outputs.argmax(1) == labels).float().mean((1, 2)))


@pytest.mark.parametrize(
    ("batch", "words", "why"),
    [
        (OUTPUTS, ["a batch is a Tensor", "(inputs, targets)"], "inputs only"),
        ([OUTPUTS], ["a batch is a list"], "one thing"),
        ({"x": OUTPUTS, "z": LABELS}, ["keys x, z", "mapping with one of target"], "no target"),
        ({"target": LABELS}, ["keys target", "and inputs"], "a target alone"),
        ([OUTPUTS, ["a"] * 7], ["targets of a batch are a list", "tensor"], "text"),
        ([OUTPUTS, LABELS[:6]], ["(7, 5)", "(6,)"], "fewer targets"),
        ([OUTPUTS, LABELS[:, None]], ["(7, 1)", "int64"], "targets with an axis"),
        ([OUTPUTS, OUTPUTS], ["float32", "integer targets"], "real targets"),
        ([OUTPUTS, LABELS > 1], ["bool"], "truth values"),
        ([OUTPUTS[:, :, None], LABELS], ["(7, 5, 1)", "(N, C)"], "an output per pixel"),
        ([{"a": 1}, LABELS], ["network returned a dict", "target"], "outputs that are no tensor"),
    ],
)
def test_a_batch_that_a_named_loss_cannot_take_is_refused(batch, words, why):
    with pytest.raises(LandscapeError) as caught:
        build("cross_entropy")(Fixed(), batch)
    message = str(caught.value)
    assert "\n" not in message, why
    for word in words:
        assert word in message, why


@pytest.mark.parametrize(
    ("labels", "words", "why"),
    [
        ([0, 1, 5, 7], ["index 2 is 5", "5 outputs", "from 0 to 4"], "one too many, the first is named"),
        ([0, -1, 1, 2], ["index 1 is -1", "from 0 to 4"], "negative"),
        ([0, 1, 2, -100], ["index 3 is -100"], "what torch would skip without a word"),
    ],
)
@pytest.mark.parametrize("name", ["cross_entropy", "nll", "mse", "hinge"])
def test_a_label_without_an_output_is_refused(name, labels, words, why):
    with pytest.raises(LandscapeError) as caught:
        check_targets(name, OUTPUTS[:4], torch.tensor(labels), where="mine.yaml: split train")
    message = str(caught.value)
    assert message.startswith("mine.yaml: split train: "), why
    for word in words:
        assert word in message, why


def test_labels_that_fit_pass():
    check_targets("cross_entropy", OUTPUTS, LABELS, where="x")
    check_targets("mse", OUTPUTS, OUTPUTS, where="x")


def test_nothing_is_required_of_the_targets_of_another_loss():
    check_targets("mine", OUTPUTS, torch.tensor([99]), where="x")


@pytest.mark.parametrize(
    ("name", "arguments", "words", "why"),
    [
        (
            "cross_entrpy",
            {},
            ["loss.name is 'cross_entrpy'", "mse, hinge, nll", "did you mean 'cross_entropy'"],
            "typo",
        ),
        ("cross_entropy", {"smoothing": 1}, ["no argument 'smoothing'", "label_smoothing"], "another word"),
        ("mse", {"margin": 1}, ["no argument 'margin'", "valid arguments are none"], "of another loss"),
        ("hinge", {"margin": "wide"}, ["loss.arguments.margin is 'wide'", "number"], "text"),
    ],
)
def test_a_loss_that_is_not_known_is_refused(name, arguments, words, why):
    with pytest.raises(LandscapeError) as caught:
        build(name, **arguments)
    message = str(caught.value)
    assert message.startswith("mine.yaml: loss"), why
    assert "\n" not in message, why
    for word in words:
        assert word in message, why


@pytest.fixture
def mine(tmp_path):
    name = "l" + "".join(character for character in tmp_path.name if character.isalnum())
    (tmp_path / f"{name}.py").write_text(
        "def scaled(model, batch, factor=1.0): return factor * model(batch[0]).square().sum(1)\n"
        "def factory(): return scaled\n"
        "class Loss:\n    def __call__(self, model, batch): return 0\n"
    )
    yield lambda function, **arguments: build_loss(
        LossConfiguration(target=f"{name}:{function}", arguments=arguments),
        where="mine.yaml",
        folders=[tmp_path],
    )
    sys.modules.pop(name, None)


def test_a_target_is_the_loss_itself_with_its_arguments(mine):
    loss = mine("scaled", factor=3.0)
    torch.testing.assert_close(loss(Fixed(), [OUTPUTS]), 3 * OUTPUTS.square().sum(1))


@pytest.mark.parametrize(
    ("function", "arguments", "words", "why"),
    [
        ("factory", {}, ["cannot be called with (model, batch)"], "it returns a loss and is none"),
        ("Loss", {}, ["is a class", "function (model, batch)"], "a class"),
        ("scaled", {"fctor": 1}, ["no argument 'fctor'", "did you mean 'factor'"], "a typo"),
    ],
)
def test_a_target_that_is_no_loss_is_refused(mine, function, arguments, words, why):
    with pytest.raises(LandscapeError) as caught:
        mine(function, **arguments)
    message = str(caught.value)
    assert "\n" not in message, why
    for word in words:
        assert word in message, why
