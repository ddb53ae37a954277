"""The two parts of the Hessian, against dense matrices of Jacobians in float64, and against curvlinops."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call, hessian, jacrev
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from mpi_landscape.configuration.sections.sources import LossConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.evaluation.curvature.operators import OfBatch
from mpi_landscape.evaluation.curvature.parts import GaussNewton, Remainder, check_parts
from mpi_landscape.loading import nests
from mpi_landscape.loading.batches import Batch
from mpi_landscape.problem.criteria import OfStep
from mpi_landscape.problem.loss_text import loss_text
from mpi_landscape.problem.losses import adapted, build_loss, hinge
from mpi_landscape.problem.second import SECOND, hinge_by_parts
from tests.evaluation.curvature.oracle import products_of

N, C = 7, 3
G = torch.Generator().manual_seed(0)
FLAT = torch.randn(N, 5, generator=G)
CLASSES = torch.randint(0, C, (N,), generator=G)
REAL = torch.randn(N, C, generator=G)
IMAGES = torch.randn(N, 1, 6, 6, generator=G)
LABELED = torch.where(
    torch.rand(N, 6, 6, generator=G) < 0.3, -100, torch.randint(0, C, (N, 6, 6), generator=G)
)
TOKENS = torch.randn(N, 3, 4, generator=G)
WEIGHT = torch.tensor([0.5, 1.0, 2.0])


class Tied(nn.Module):
    """One matrix, used at two places."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(5, 5), nn.Linear(5, 5, bias=False)
        self.last.weight = self.first.weight
        self.head = nn.Linear(5, C)

    def forward(self, x):
        return self.head(torch.tanh(self.last(torch.tanh(self.first(x)))))


class Attention(nn.Module):
    """Attention with a normalization, and the mean over the tokens."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 5, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, C)

    def forward(self, x):
        return self.head(self.layer(x).mean(1))


class TwoHeads(nn.Module):
    """Two outputs of one body."""

    def __init__(self):
        super().__init__()
        self.body, self.label, self.value = nn.Linear(5, 4), nn.Linear(4, C), nn.Linear(4, 1)

    def forward(self, x):
        inner = torch.tanh(self.body(x))
        return {"label": self.label(inner), "value": self.value(inner)}


class OfTwoHeads:
    """A user's own loss that says what its outputs are."""

    def __call__(self, model, batch):
        return self.loss_of_outputs(self.outputs(model, batch), batch)

    def outputs(self, model, batch):
        return model(batch[0])

    def loss_of_outputs(self, outputs, batch):
        labels = F.cross_entropy(outputs["label"], batch[1], reduction="none")
        # A product of both outputs, so that the second derivative couples them.
        return labels + (outputs["value"][:, 0] * outputs["label"][:, 0] - 1.0).square()


def convolutions():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, C, 3, padding=1)
    )
    net[1].running_mean.uniform_(-0.5, 0.5, generator=G)
    net[1].running_var.uniform_(0.5, 2.0, generator=G)
    return net


def classifier():
    return nn.Sequential(convolutions(), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def mlp():
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, C))


def frozen():
    net = mlp()
    net[0].bias.requires_grad_(False)
    return net


def named(name: str, **arguments: float) -> Any:
    return build_loss(LossConfiguration(name=name, arguments=arguments), where="test", folders=[])


def means(function: Any) -> Any:
    """The sum of a loss of torch over examples (or elements), and its number."""

    def of(outputs, targets):
        values = function(outputs, targets)
        return values.sum(), float(values.shape[0])

    return of


def weighed(outputs, targets):
    counted = torch.where(targets == -100, 0.0, WEIGHT.to(outputs)[torch.where(targets == -100, 0, targets)])
    return (
        F.cross_entropy(outputs, targets, weight=WEIGHT.to(outputs), reduction="sum"),
        float(counted.sum()),
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network, its data, a loss of the program, and the same loss as a sum and a count."""

    network: Any
    data: Any
    loss: Any
    plain: Any
    semidefinite: bool = True


def per_place(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none").flatten(1).mean(1)


def squares(outputs, targets):
    return (outputs - F.one_hot(targets, C)).square().mean(1)


CASES = {
    "tanh, cross-entropy": Case(
        network=mlp,
        data=(FLAT, CLASSES),
        loss=lambda: named("cross_entropy"),
        plain=means(lambda z, y: F.cross_entropy(z, y, reduction="none")),
    ),
    "smoothed": Case(
        network=mlp,
        data=(FLAT, CLASSES),
        loss=lambda: named("cross_entropy", label_smoothing=0.2),
        plain=means(lambda z, y: F.cross_entropy(z, y, reduction="none", label_smoothing=0.2)),
    ),
    "frozen, squares of classes": Case(
        network=frozen, data=(FLAT, CLASSES), loss=lambda: named("mse"), plain=means(squares)
    ),
    "squares": Case(
        network=mlp,
        data=(FLAT, REAL),
        loss=lambda: named("mse"),
        plain=means(lambda z, y: (z - y).square().mean(1)),
    ),
    "hinge": Case(
        network=mlp,
        data=(FLAT, CLASSES),
        loss=lambda: named("hinge", margin=0.7),
        plain=means(
            lambda z, y: (
                sum(
                    torch.relu(0.7 - z.gather(1, y[:, None])[:, 0] + z[:, j]) * (y != j).to(z.dtype)
                    for j in range(C)
                )
                / C
            )
        ),
    ),
    "log-probabilities": Case(
        network=lambda: nn.Sequential(mlp(), nn.LogSoftmax(1)),
        data=(FLAT, CLASSES),
        loss=lambda: named("nll"),
        plain=means(lambda z, y: -z.gather(1, y[:, None])[:, 0]),
    ),
    "normalized convolutions": Case(
        network=classifier,
        data=(IMAGES, CLASSES),
        loss=lambda: named("cross_entropy"),
        plain=means(lambda z, y: F.cross_entropy(z, y, reduction="none")),
    ),
    "segmentation": Case(
        network=convolutions,
        data=(IMAGES, LABELED.clamp(min=0)),
        loss=lambda: named("cross_entropy"),
        plain=means(per_place),
    ),
    "segmentation, weights and ignored places": Case(
        network=convolutions,
        data=(IMAGES, LABELED),
        loss=lambda: adapted(nn.CrossEntropyLoss(weight=WEIGHT)),
        plain=weighed,
    ),
    "criterion of probabilities": Case(
        network=mlp,
        data=(FLAT, REAL.sigmoid()),
        loss=lambda: adapted(nn.BCEWithLogitsLoss()),
        plain=means(lambda z, y: F.binary_cross_entropy_with_logits(z, y, reduction="none").mean(1)),
    ),
    "criterion of a function": Case(
        network=mlp,
        data=(FLAT, REAL),
        loss=lambda: adapted(lambda outputs, targets: F.huber_loss(outputs, targets, delta=0.4)),
        plain=means(lambda z, y: F.huber_loss(z, y, delta=0.4, reduction="none").mean(1)),
    ),
    "tied": Case(
        network=Tied,
        data=(FLAT, CLASSES),
        loss=lambda: adapted(nn.CrossEntropyLoss(reduction="sum")),
        plain=means(lambda z, y: F.cross_entropy(z, y, reduction="none")),
    ),
    "attention": Case(
        network=Attention,
        data=(TOKENS, CLASSES),
        loss=lambda: named("cross_entropy"),
        plain=means(lambda z, y: F.cross_entropy(z, y, reduction="none")),
    ),
    "two outputs": Case(
        network=TwoHeads,
        data=(FLAT, CLASSES),
        loss=lambda: adapted(OfTwoHeads()),
        plain=means(lambda z, y: OfTwoHeads().loss_of_outputs(z, (None, y))),
        semidefinite=False,
    ),
}


def batches_of(data: Any, dtype: torch.dtype) -> list[Batch]:
    """Three batches, the last filled up with a row that is larger than the others and does not count."""
    given = nests.in_precision(data, dtype)
    last = nests.rows(given, 6, 7)
    filled = nests.joined(
        [last, nests.map_tensors(lambda each: each * 3 if each.is_floating_point() else each, last)]
    )
    return [
        Batch(data=nests.rows(given, 0, 4), valid=4),
        Batch(data=nests.rows(given, 4, 6), valid=2),
        Batch(data=filled, valid=1),
    ]


def dense(operator: Any, network: nn.Module, loss: Any, batches: list[Batch]) -> torch.Tensor:
    """The operator's matrix, by products with unit vectors."""
    parameters = [each for each in network.parameters() if each.requires_grad]
    sizes = [each.numel() for each in parameters]
    with sdpa_kernel(SDPBackend.MATH):
        recorded = [
            operator(OfBatch(network=network, loss=loss, batch=batch, parameters=parameters))
            for batch in batches
        ]
        columns = []
        for unit in torch.eye(sum(sizes), dtype=parameters[0].dtype):
            vector = [
                part.reshape(each.shape) for part, each in zip(unit.split(sizes), parameters, strict=True)
            ]
            last = len(columns) == sum(sizes) - 1
            parts = [each.times(vector, last=last) for each in recorded]
            columns.append(
                sum(
                    torch.cat(
                        [
                            torch.zeros_like(own).flatten() if part is None else part.detach().flatten()
                            for part, own in zip(of_batch, parameters, strict=True)
                        ]
                    ).double()
                    for of_batch in parts
                )
            )
    return torch.stack(columns, 1) / sum(each.count for each in recorded)


def oracle(network: nn.Module, plain: Any, data: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """H and G of the mean, by Jacobians of a function of one flat vector."""
    names = [name for name, each in network.named_parameters() if each.requires_grad]
    own = dict(network.named_parameters())
    sizes = [own[name].numel() for name in names]
    inputs, targets = data
    shapes: dict[str, torch.Size] = {}

    def outputs_of(flat: torch.Tensor) -> torch.Tensor:
        state = {
            name: part.reshape(own[name].shape) for name, part in zip(names, flat.split(sizes), strict=True)
        }
        given = functional_call(network, state, (inputs,))
        given = given if isinstance(given, dict) else {"": given}
        shapes.update({name: each.shape for name, each in given.items()})
        return torch.cat([each.flatten() for each in given.values()])

    def mean_of(outputs: torch.Tensor) -> torch.Tensor:
        parts = outputs.split([shape.numel() for shape in shapes.values()])
        given = {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
        total, count = plain(given.get("", given), targets)
        return total / count

    flat = torch.cat([own[name].detach().flatten() for name in names])
    with sdpa_kernel(SDPBackend.MATH):
        outputs = outputs_of(flat)
        jacobian = jacrev(outputs_of)(flat)
        second = hessian(mean_of)(outputs)
        whole = torch.autograd.functional.hessian(lambda each: mean_of(outputs_of(each)), flat)
    return whole, jacobian.T @ second @ jacobian


def made(case: Case, dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(3)
    return case.network().eval().to(dtype)


@pytest.mark.parametrize("name", CASES)
def test_both_parts_are_those_of_jacobians_in_float64(name):
    case = CASES[name]
    network = made(case, torch.float64)
    batches, loss = batches_of(case.data, torch.float64), case.loss()
    whole, wanted = oracle(network, case.plain, nests.in_precision(case.data, torch.float64))
    gauss_newton = dense(GaussNewton, network, loss, batches)
    remainder = dense(Remainder, network, loss, batches)
    # Nothing but rounding: sums of a few hundred terms.
    scale = float(whole.abs().max())
    assert float((gauss_newton - wanted).abs().max()) < 1e-12 * scale
    assert float((gauss_newton + remainder - whole).abs().max()) < 1e-12 * scale
    if name not in ("hinge", "log-probabilities"):
        assert float(wanted.abs().max()) > 1e-3
    if case.semidefinite:
        assert float(torch.linalg.eigvalsh(gauss_newton).min()) > -1e-12 * scale
    check_parts("gauss_newton", first_of(network, loss, batches))


def first_of(network: nn.Module, loss: Any, batches: list[Batch]) -> OfBatch:
    parameters = [each for each in network.parameters() if each.requires_grad]
    return OfBatch(network=network, loss=loss, batch=batches[0], parameters=parameters)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("engine", ["plain", "auto"])
def test_the_parts_add_up_to_the_hessian_in_float32(name, engine):
    case = CASES[name]
    network = made(case, torch.float32)
    batches, loss = batches_of(case.data, torch.float32), case.loss()
    vectors = torch.randn(3, products_of(network, loss).size, generator=G)
    found = {}
    for operator in ("hessian", "gauss_newton", "remainder"):
        with exact_arithmetic(), products_of(network, loss, operator=operator, engine=engine) as products:
            found[operator] = products.product(vectors, lambda: [batches])
            assert products.count == sum(function.valid for function in batches) or "ignored" in name
    both = found["gauss_newton"] + found["remainder"]
    size = torch.linalg.vector_norm(found["hessian"], dim=1)
    assert bool((torch.linalg.vector_norm(both - found["hessian"], dim=1) < 1e-6 * size).all())


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "hinge"])
def test_the_remainder_of_a_linear_network_is_zero(loss):
    network = nn.Linear(5, C).double()
    remainder = dense(Remainder, network, named(loss), batches_of((FLAT, CLASSES), torch.float64))
    assert not remainder.any()


def test_a_last_bias_has_no_remainder_and_a_curvature_of_its_own():
    network = made(CASES["tanh, cross-entropy"], torch.float64)
    batches = batches_of((FLAT, CLASSES), torch.float64)
    bias = slice(-C, None)
    assert not dense(Remainder, network, named("cross_entropy"), batches)[bias].any()
    # The mean of diag(p) - p p^T over the examples.
    shares = network(FLAT.double()).softmax(1).detach()
    wanted = (torch.diag_embed(shares) - shares[:, :, None] * shares[:, None, :]).mean(0)
    found = dense(GaussNewton, network, named("cross_entropy"), batches)[bias, bias]
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)


def test_a_network_that_is_sure_loses_no_digits_of_its_parts():
    # Logits of some 25, losses of 1e-10: in float32 1 - p would be zero.
    network = made(CASES["tanh, cross-entropy"], torch.float64)
    with torch.no_grad():
        answers = network(FLAT.double()).argmax(1)
        network[2].weight *= 40
        network[2].bias *= 40
        network.float().double()
    losses = named("cross_entropy")
    exact = batches_of((FLAT, answers), torch.float64)
    for operator in (GaussNewton, Remainder):
        wanted = dense(operator, network, losses, exact)
        rounded = made(CASES["tanh, cross-entropy"], torch.float32)
        rounded.load_state_dict(network.state_dict())
        found = dense(operator, rounded, losses, batches_of((FLAT, answers), torch.float32))
        assert float((found - wanted).abs().max()) < 1e-4 * float(wanted.abs().max()), operator


def test_closed_forms_are_what_autograd_finds():
    values = torch.randn(4, C, 2, generator=G, dtype=torch.float64)
    vector = torch.randn(4, C, 2, generator=G, dtype=torch.float64)
    targets = torch.randint(0, C, (4, 2), generator=G)
    for name, chosen in (("cross_entropy", targets), ("mse", vector.flip(0))):
        loss = named(name)

        def total(outputs, loss=loss, chosen=chosen):
            return loss.func.loss_of_outputs(outputs, (None, chosen), **loss.keywords)["loss"].sum()

        wanted = torch.autograd.functional.hvp(total, values, vector)[1]
        torch.testing.assert_close(SECOND[name](values, vector), wanted, rtol=0, atol=1e-15)


def test_of_differentiable_twice_the_hinge_is_the_hinge():
    scores, labels = torch.randn(20, 4, generator=G), torch.randint(0, 4, (20,), generator=G)
    torch.testing.assert_close(hinge_by_parts(scores, labels, margin=0.3), hinge(scores, labels, margin=0.3))


def silent(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


class Penalized(OfTwoHeads):
    """Adds what no output says."""

    def __call__(self, model, batch):
        return super().__call__(model, batch) + model.body.weight.square().sum()


class Reaching(OfTwoHeads):
    """The penalty where no parameter should be."""

    def __init__(self, model):
        self.model = model

    def loss_of_outputs(self, outputs, batch):
        return super().loss_of_outputs(outputs, batch) + self.model.body.weight.square().sum()


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (lambda _: adapted(silent), "a loss whose outputs are not known, silent; valid is"),
        (lambda _: OfStep(silent, "training_step"), "whose outputs are not known, silent"),
        (lambda _: adapted(Penalized()), "without penalties on parameters"),
        (lambda model: adapted(Reaching(model)), "depends on parameters of the network besides the outputs"),
    ],
)
def test_a_loss_whose_outputs_are_not_known_is_refused_in_one_line(loss, words):
    network = made(CASES["two outputs"], torch.float64)
    function = first_of(network, loss(network), batches_of((FLAT, CLASSES), torch.float64))
    with pytest.raises(LandscapeError, match=words) as caught:
        check_parts("gauss_newton", function)
    assert str(caught.value).startswith("hessian.operator: gauss_newton")
    assert "\n" not in str(caught.value)


def test_arguments_of_a_loss_go_to_the_steps_that_take_them():
    def scaled(model, batch, *, factor):
        return of_outputs(outputs(model, batch), batch, factor=factor)

    def outputs(model, batch):
        return model(batch[0])

    def of_outputs(given, batch, *, factor):
        return factor * F.cross_entropy(given, batch[1], reduction="none")

    vars(scaled).update(outputs=outputs, loss_of_outputs=of_outputs)
    network = made(CASES["tanh, cross-entropy"], torch.float64)
    batches = batches_of((FLAT, CLASSES), torch.float64)
    found = dense(GaussNewton, network, adapted(functools.partial(scaled, factor=3.0)), batches)
    wanted = 3.0 * dense(GaussNewton, network, named("cross_entropy"), batches)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-14)


def test_losses_that_are_cut_elsewhere_are_different_losses():
    def cut_at_probabilities(model, batch):
        return -torch.log(model(batch[0]).softmax(1).gather(1, batch[1][:, None])[:, 0])

    vars(cut_at_probabilities).update(
        outputs=lambda model, batch: model(batch[0]).softmax(1),
        loss_of_outputs=lambda outputs, batch: -torch.log(outputs.gather(1, batch[1][:, None])[:, 0]),
    )
    network = made(CASES["tanh, cross-entropy"], torch.float64)
    batches = batches_of((FLAT, CLASSES), torch.float64)
    loss = adapted(cut_at_probabilities)
    parts = [dense(operator, network, loss, batches) for operator in (GaussNewton, Remainder)]
    others = [
        dense(operator, network, named("cross_entropy"), batches) for operator in (GaussNewton, Remainder)
    ]
    torch.testing.assert_close(sum(parts), sum(others), rtol=0, atol=1e-14)
    assert float((parts[0] - others[0]).abs().max()) > 1e-3


def test_what_identifies_a_loss_holds_its_two_steps():
    def made_with(factor):
        def loss(model, batch):
            return F.cross_entropy(model(batch[0]), batch[1], reduction="none")

        if factor is not None:
            vars(loss).update(outputs=lambda model, batch: factor * model(batch[0]), loss_of_outputs=None)
        return loss

    texts = [loss_text(made_with(factor)) for factor in (None, 1.0, 2.0, 2.0)]
    assert len(set(texts)) == 3
    assert texts[2] == texts[3]


def test_gauss_newton_is_that_of_curvlinops():
    curvlinops = pytest.importorskip("curvlinops", reason="pip install curvlinops-for-pytorch")
    network = made(CASES["normalized convolutions"], torch.float64)
    data = nests.in_precision((IMAGES, CLASSES), torch.float64)
    theirs = curvlinops.GGNLinearOperator(
        network, nn.CrossEntropyLoss(), list(network.parameters()), [data], check_deterministic=False
    )
    size = sum(each.numel() for each in network.parameters())
    wanted = theirs @ torch.eye(size, dtype=torch.float64)
    found = dense(GaussNewton, network, named("cross_entropy"), batches_of((IMAGES, CLASSES), torch.float64))
    assert float((found - wanted).abs().max()) < 1e-12 * float(wanted.abs().max())


@pytest.mark.parametrize("operator", ["gauss_newton", "remainder"])
def test_kept_graphs_of_a_part_give_the_bits_of_rebuilt_ones(operator):
    case = CASES["normalized convolutions"]
    network, batches = made(case, torch.float32), batches_of(case.data, torch.float32)
    found = []
    for memory in (0, 2**26):
        with (
            exact_arithmetic(),
            products_of(network, case.loss(), operator=operator, memory=memory) as products,
        ):
            vectors = torch.randn(2, products.size, generator=torch.Generator().manual_seed(1))

            def pieces():
                return [batches]

            found += [products.product(vectors, pieces), products.product(vectors, pieces)]
    assert found[0].any()
    assert all(torch.equal(found[0], other) for other in found[1:])


def test_products_refuse_a_part_of_a_loss_whose_outputs_are_not_known_before_any_data_are_read():
    with pytest.raises(LandscapeError, match="gauss_newton for a loss whose outputs are not known, silent"):
        products_of(made(CASES["tied"], torch.float32), adapted(silent), operator="gauss_newton")


def test_products_of_a_part_refuse_a_loss_that_is_no_function_of_its_outputs():
    network, batches = made(CASES["two outputs"], torch.float32), batches_of((FLAT, CLASSES), torch.float32)
    with (
        products_of(network, adapted(Penalized()), operator="remainder") as products,
        pytest.raises(LandscapeError, match="remainder: loss_of_outputs gives"),
    ):
        products.product(torch.ones(1, products.size), lambda: [batches])
