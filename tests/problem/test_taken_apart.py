"""Scalars of a batch, taken apart: by example, by what counts, against torch's own reductions and against loops."""

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mpi_landscape.errors import LandscapeError
from mpi_landscape.problem.losses import adapted
from mpi_landscape.problem.taken_apart import TakenApart

N = 6
G = torch.Generator().manual_seed(0)
REAL, OTHER = torch.randn(N, 4, generator=G), torch.randn(N, 4, generator=G)
SHARE = torch.rand(N, 4, generator=G)
CLASSES = torch.randint(0, 4, (N,), generator=G)
SOME = torch.where(torch.arange(N) % 3 == 1, -100, CLASSES)
WEIGHT = torch.tensor([0.5, 1.0, 2.0, 4.0])
TOKENS, LABELS = torch.randn(N, 4, 5, generator=G), torch.randint(0, 4, (N, 5), generator=G)
PADDED = torch.where(torch.rand(N, 5, generator=G) < 0.4, -100, LABELS)
SIGNS = torch.where(torch.rand(N, generator=G) < 0.5, -1.0, 1.0)


class Identity(nn.Module):
    """Hands on what it is given: a loss sees the numbers of the test."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * self.scale


MODEL = Identity()
# Criterion, outputs, targets, and by what each example counts; None where all count the same.
CRITERIA = {
    "cross-entropy": (nn.CrossEntropyLoss(), REAL, CLASSES, torch.ones(N)),
    "smoothed": (nn.CrossEntropyLoss(label_smoothing=0.2), REAL, CLASSES, torch.ones(N)),
    "weighted": (nn.CrossEntropyLoss(weight=WEIGHT), REAL, CLASSES, WEIGHT[CLASSES]),
    "weighted and smoothed": (
        nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.1),
        REAL,
        CLASSES,
        WEIGHT[CLASSES],
    ),
    "some ignored": (nn.CrossEntropyLoss(), REAL, SOME, (SOME >= 0).float()),
    "another ignored": (nn.CrossEntropyLoss(ignore_index=2), REAL, CLASSES, (CLASSES != 2).float()),
    "probabilities": (nn.CrossEntropyLoss(), REAL, SHARE / SHARE.sum(1, keepdim=True), None),
    "tokens": (nn.CrossEntropyLoss(), TOKENS, LABELS, torch.full((N,), 5.0)),
    "padded tokens": (nn.CrossEntropyLoss(), TOKENS, PADDED, (PADDED >= 0).sum(1).float()),
    "weighted tokens": (nn.CrossEntropyLoss(weight=WEIGHT), TOKENS, LABELS, WEIGHT[LABELS].sum(1)),
    "nll": (nn.NLLLoss(), REAL.log_softmax(1), CLASSES, torch.ones(N)),
    "squares": (nn.MSELoss(), REAL, OTHER, None),
    "absolutes": (nn.L1Loss(), REAL, OTHER, None),
    "Huber": (nn.HuberLoss(delta=0.5), REAL, OTHER, None),
    "smooth": (nn.SmoothL1Loss(), REAL, OTHER, None),
    "binary": (nn.BCEWithLogitsLoss(pos_weight=WEIGHT), REAL, SHARE, None),
    "binary of shares": (nn.BCELoss(), SHARE, (OTHER > 0).float(), None),
    "divergence": (nn.KLDivLoss(reduction="batchmean"), REAL.log_softmax(1), SHARE, None),
    "divergence by element": (nn.KLDivLoss(), REAL.log_softmax(1), SHARE, None),
    "margin": (nn.MultiMarginLoss(), REAL, CLASSES, None),
    "several margins": (nn.MultiLabelSoftMarginLoss(), REAL, (OTHER > 0).float(), None),
    "soft margin": (nn.SoftMarginLoss(), REAL, torch.sign(OTHER), None),
    "Poisson": (nn.PoissonNLLLoss(), REAL, SHARE, None),
    "hinge of embeddings": (nn.HingeEmbeddingLoss(), REAL, torch.sign(OTHER), None),
    "sum": (nn.CrossEntropyLoss(reduction="sum"), REAL, CLASSES, None),
    "function": (F.mse_loss, REAL, OTHER, None),
}


@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_is_taken_apart(name):
    criterion, outputs, targets, counts = CRITERIA[name]
    loss = adapted(criterion)
    whole = loss(MODEL, (outputs, targets))
    total = whole["loss"].sum()
    number = N if counts is None else counts.sum()
    if getattr(criterion, "reduction", "") == "sum":
        torch.testing.assert_close(total, criterion(outputs, targets).double())
    else:
        torch.testing.assert_close(total / number, criterion(outputs, targets).double())
    if counts is None:
        assert "count" not in whole
    else:
        torch.testing.assert_close(whole["count"], counts.double())
    # And in every other batch an example adds the same, also alone, where torch itself says what that is.
    for size in (1, 4):
        for start in range(0, N, size):
            part = loss(MODEL, (outputs[start : start + size], targets[start : start + size]))
            torch.testing.assert_close(part["loss"], whole["loss"][start : start + size])


def test_accuracy_comes_along_where_a_label_is_a_class():
    def correct(criterion, outputs, targets):
        return adapted(criterion)(MODEL, (outputs, targets)).get("correct")

    right = (REAL.argmax(1) == CLASSES).double()
    torch.testing.assert_close(correct(nn.CrossEntropyLoss(), REAL, CLASSES), right)
    found = correct(nn.CrossEntropyLoss(), TOKENS, PADDED)
    torch.testing.assert_close(found, (TOKENS.argmax(1) == PADDED).sum(1).double())
    assert correct(nn.CrossEntropyLoss(weight=WEIGHT), REAL, CLASSES) is None, "the mean is over weights"
    assert correct(nn.MSELoss(), REAL, OTHER) is None


def masked_mean(model, batch):
    x, mask = batch
    return (model(x).square() * mask).sum() / mask.sum()


def masked_mean_of_bools(model, batch):
    x, mask = batch
    return (model(x).square() * mask).sum() / (mask > 0).sum().clamp(min=1)


MASK = (SHARE > 0.4).float()


@pytest.mark.parametrize("loss", [masked_mean, masked_mean_of_bools])
def test_a_sum_divided_by_a_sum_is_a_mean_over_what_is_not_masked(loss):
    found = adapted(loss)(MODEL, (REAL, MASK))
    torch.testing.assert_close(found["loss"], (REAL.double().square() * MASK).sum(1))
    torch.testing.assert_close(found["count"], MASK.double().sum(1))


# By hand, with the loss of each example.
BY_HAND = {
    "mean": (lambda model, x: (model(x) ** 2).mean(), REAL.square().mean(1)),
    "torch.mean": (lambda model, x: torch.mean(model(x) ** 2), REAL.square().mean(1)),
    "sum by number": (lambda model, x: model(x).square().sum() / len(x), REAL.square().sum(1)),
    "of a mean by example": (lambda model, x: model(x).square().sum(1).mean(), REAL.square().sum(1)),
    "minus": (lambda model, x: -F.logsigmoid(model(x)[:, 0]).mean(), -F.logsigmoid(REAL[:, 0])),
    "two terms": (
        lambda model, x: F.l1_loss(model(x), x * 2) + 0.5 * (model(x)[:, 1] ** 2).mean(),
        REAL.abs().mean(1) + 0.5 * REAL[:, 1] ** 2,
    ),
    "a constant": (lambda model, x: model(x).square().mean() + 3.0, REAL.square().mean(1) + 3.0),
    "a penalty": (
        lambda model, x: model(x).square().mean() + 0.5 * sum(p.square().sum() for p in model.parameters()),
        REAL.square().mean(1) + 0.5,
    ),
    "a mapping": (lambda model, x: {"loss": model(x).square().mean(), "note": 5}, REAL.square().mean(1)),
    "cut off": (lambda model, x: model(x).square().mean().detach(), REAL.square().mean(1)),
    "no reduction of torch": (
        lambda model, x: model(x).square() @ torch.ones(4) @ x.new_ones(len(x)) / len(x),
        REAL.square().sum(1),
    ),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_scalar_by_hand_is_taken_apart(name):
    function, wanted = BY_HAND[name]
    loss = adapted(function)
    with torch.no_grad():
        for start, stop in itertools.chain([(0, N)], itertools.combinations(range(N + 1), 2)):
            found = loss(MODEL, REAL[start:stop])
            torch.testing.assert_close(
                found["loss"].double(), wanted[start:stop].double(), rtol=1e-5, atol=1e-6
            )


def test_a_penalty_whose_rows_could_be_examples_is_none():
    """Six rows of a weight beside six examples: only the examples change places when the batch does."""
    network = nn.Linear(4, N, bias=False)

    def loss(model, x):
        return model(x).square().mean() + 0.1 * model.weight.square().sum()

    with torch.no_grad():
        wanted = network(REAL).square().mean(1) + 0.1 * network.weight.square().sum()
        torch.testing.assert_close(
            adapted(loss)(network, REAL)["loss"], wanted.double(), rtol=1e-5, atol=1e-6
        )


def test_what_a_mask_has_picked_out_counts_element_by_element():
    """As token classification is often written: logits[active], labels[active]."""

    def loss(model, batch):
        logits, labels, active = batch
        return F.cross_entropy(model(logits).transpose(1, 2)[active], labels[active])

    active = PADDED >= 0
    active[3] = False  # an example of which nothing is left
    found = adapted(loss)(MODEL, (TOKENS, LABELS, active))
    each = F.cross_entropy(TOKENS, LABELS, reduction="none").double() * active
    torch.testing.assert_close(found["loss"], each.sum(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["count"], active.double().sum(1))


def test_the_gradient_is_that_of_the_scalar():
    network = nn.Linear(4, 4)

    def loss(model, batch):
        x, y = batch
        penalty = sum(p.square().sum() for p in model.parameters())
        return F.cross_entropy(model(x), y) + 0.3 * penalty + 0.5 * model(x).square().mean()

    wanted = torch.autograd.grad(loss(network, (REAL, CLASSES)), list(network.parameters()))
    parts = adapted(loss)(network, (REAL, CLASSES))
    found = torch.autograd.grad(parts["loss"].sum() / N, list(network.parameters()))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_a_value_per_example_is_handed_on_as_it_is():
    def loss(model, x):
        return {"loss": model(x).square().mean(1), "rank": x[:, 0]}

    found = adapted(loss)(MODEL, REAL)
    assert list(found) == ["loss", "rank"]
    assert torch.equal(found["loss"], REAL.square().mean(1))


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (lambda model, x: model(x).max(), "the largest of a batch is no mean"),
        (lambda model, x: (model(x).square() @ torch.ones(4)).cumsum(0)[-1] ** 0.5, "a root of a sum"),
    ],
)
def test_a_scalar_that_is_no_mean_is_refused(loss, why):
    with pytest.raises(LandscapeError) as caught:
        adapted(loss)(MODEL, REAL)
    assert "one value per example" in str(caught.value), why
    assert "\n" not in str(caught.value)


def test_means_over_different_numbers_are_refused():
    def loss(model, batch):
        tokens, labels = batch
        return F.cross_entropy(model(tokens), labels) + model(tokens).square().mean()

    with pytest.raises(LandscapeError, match="means over different numbers of elements"):
        TakenApart(loss, name="loss", ragged=True)(MODEL, (TOKENS, PADDED))


def test_of_items_of_several_sizes_long_ones_count_more_unless_sequences_are_asked_for():
    loss = TakenApart(lambda model, x: model(x).square().mean(), name="loss", ragged=True)
    torch.testing.assert_close(loss(MODEL, REAL)["count"], torch.full((N,), 4.0, dtype=torch.float64))
    each = TakenApart(
        lambda model, b: F.cross_entropy(model(b[0]), b[1]), name="loss", ragged=True, per_sequence=True
    )
    labels = PADDED.clone()
    labels[2] = -100  # an example without a token
    found = each(MODEL, (TOKENS, labels))
    wanted = [float(F.cross_entropy(TOKENS[[row]], labels[[row]])) for row in range(N) if row != 2]
    assert found["count"].tolist() == [1.0, 1, 0, 1, 1, 1]
    torch.testing.assert_close(
        found["loss"][found["count"] > 0], torch.tensor(wanted, dtype=torch.float64), rtol=1e-5, atol=1e-6
    )


def test_gradients_are_as_switched_afterwards():
    for mode in (True, False):
        with torch.set_grad_enabled(mode):
            adapted(nn.MSELoss())(MODEL, (REAL, OTHER))
            assert torch.is_grad_enabled() is mode


UNITS = [
    (
        nn.CrossEntropyLoss(),
        PADDED,
        "nats per element",
        "a mean of -ln p over what an example has several of",
    ),
    (nn.CrossEntropyLoss(label_smoothing=0.1), PADDED, None, "not of -ln p"),
    (nn.CrossEntropyLoss(weight=WEIGHT), LABELS, None, "weighted"),
    (lambda outputs, labels: 2 * F.cross_entropy(outputs, labels), PADDED, None, "a multiple of it"),
    (
        lambda outputs, labels: F.cross_entropy(outputs, labels) + 0.5,
        PADDED,
        None,
        "a sum",
    ),
]


@pytest.mark.parametrize(("criterion", "labels", "units", "why"), UNITS, ids=[why for *_, why in UNITS])
def test_a_loss_says_its_units_where_its_exponential_is_a_perplexity(criterion, labels, units, why):
    def loss(model, batch):
        return criterion(model(batch["x"]), batch["y"])

    for name, wanted in (("x", units), ("input_ids", units and "nats per token")):

        def renamed(model, batch, name=name):
            return loss(model, {"x": batch[name], "y": batch["y"]})

        taken = TakenApart(renamed, name="loss", ragged=True)
        taken(MODEL, {name: TOKENS, "y": labels})
        assert taken.units == wanted, why
    whole = TakenApart(loss, name="loss", ragged=True, per_sequence=True)
    whole(MODEL, {"x": TOKENS, "y": labels})
    assert whole.units is None
