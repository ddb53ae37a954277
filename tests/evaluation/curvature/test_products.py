"""Products of the Hessian: closed forms, dense Hessians in float64, and the network as it was afterwards."""

from __future__ import annotations

import copy
from contextlib import ExitStack

import pytest
import torch
from torch import nn

from mpi_landscape.errors import LandscapeError
from mpi_landscape.evaluation.arithmetic import exact_arithmetic
from mpi_landscape.geometry.layout import layout_of
from mpi_landscape.problem.losses import adapted
from tests.evaluation.curvature.oracle import (
    KINDS,
    batches_of,
    dense,
    made,
    mean_square,
    normal,
    products_of,
    whole,
)
from tests.exhaustive import rows


@pytest.fixture(autouse=True)
def exact():
    with exact_arithmetic():
        yield


def test_the_hessian_of_a_quadratic_is_its_closed_form():
    # L = mean((x·w - y)²) has the Hessian 2/N Xᵀ X. Small integers: nothing rounds but the division.
    inputs = torch.tensor(
        [[1.0, -2.0, 3.0], [0.0, 4.0, 1.0], [2.0, 2.0, -1.0], [5.0, 0.0, 1.0], [-3.0, 1.0, 2.0]]
    )
    model = nn.Linear(3, 1, bias=False)
    with products_of(model, mean_square) as products:
        found = whole(products, batches_of([inputs, torch.ones(5)], 2))
    assert torch.equal(found, 2 * (inputs.T @ inputs).double() / 5)


def error_of(found, wanted):
    """By how much any eigenvalue may be off, relative to the largest."""
    return float(torch.linalg.matrix_norm(found - wanted, ord=2) / torch.linalg.matrix_norm(wanted, ord=2))


# Relative to the largest eigenvalue.
PRECISIONS = [(torch.float64, 1e-11), (torch.float32, 1e-6)]
TABLE = {f"{kind}, {dtype}": (kind, dtype, far) for kind in KINDS for dtype, far in PRECISIONS}
DAILY = ("mlp", "residual", "tied", "complex", "loose")


@pytest.mark.parametrize(
    ("kind", "dtype", "tolerance"),
    rows(TABLE, *(name for name, row in TABLE.items() if row[0] in DAILY or row[1] == torch.float32)),
)
def test_products_are_those_of_the_dense_hessian_in_float64(kind, dtype, tolerance):
    model, loss, data = made(kind)
    names = [entry.name for entry in layout_of(model).entries if entry.trainable]
    if kind == "tied":  # the oracle has one tensor in both places
        single = copy.deepcopy(model)
        single.fourth.weight = single.third.weight
        wanted = dense(single, loss, data, names)
    else:
        wanted = dense(model, loss, data, names)
    before = copy.deepcopy(model.state_dict())
    asked = [each.requires_grad for each in model.parameters()]
    model.train()
    vectors = normal(6, len(wanted))
    with products_of(model, loss, dtype=dtype) as products:
        found = products.product(vectors, lambda: [batches_of(data, 4, dtype)])
    assert found.dtype == torch.float64
    assert error_of(found, vectors.to(dtype).double() @ wanted) < tolerance
    assert model.training
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert [each.requires_grad for each in model.parameters()] == asked
    assert all(each.grad is None for each in model.parameters())


def moved(model, seed=4):
    """The network's parameters and buffers at another place."""
    generator = torch.Generator().manual_seed(seed)
    state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
    for name, tensor in state.items():
        if tensor.is_floating_point():
            # Running variances stay positive.
            noise = torch.rand(tensor.shape, generator=generator) if "var" in name else None
            tensor += torch.randn(tensor.shape, generator=generator) / 3 if noise is None else noise
    return state


@pytest.mark.parametrize("engine", ["plain", "auto"])
def test_elsewhere_products_are_those_of_the_network_with_the_other_parameters_and_buffers(engine):
    model, loss, data = made("residual")
    names = [name for name, _ in model.named_parameters()]
    batches = batches_of(data, 4, torch.float64)
    pieces = lambda: [batches[:2], batches[2:]]  # noqa: E731 - one object: graphs are kept
    vectors = normal(3, sum(each.numel() for each in model.parameters()))
    with products_of(model, loss, dtype=torch.float64, memory=2**24, threads=2, engine=engine) as products:
        for seed in (4, 5):
            state = moved(model, seed)
            other = copy.deepcopy(model)
            other.load_state_dict(state)
            products.put(state)
            wanted = vectors @ dense(other, loss, data, names)
            for _ in range(2):
                assert error_of(products.product(vectors, pieces), wanted) < 1e-11
        assert products.way.folded == ((("first", "norm1"), ("second", "norm2")) if engine == "auto" else ())
        assert products.count == 11
        with torch.no_grad():
            values = [loss(products._model, each.data)["loss"][: each.valid] for each in batches]
        assert products.loss == pytest.approx(float(torch.cat(values).mean()), rel=1e-12)


def found_with(memory, threads, kind="residual", size=2):
    model, loss, data = made(kind)
    batches, generator = batches_of(data, size), torch.Generator().manual_seed(7)
    pieces = lambda: [batches[:3], batches[3:]]  # noqa: E731
    with products_of(model, loss, memory=memory, threads=threads) as products:
        vectors = torch.randn(3, products.size, generator=generator)
        found = [products.product(vectors, pieces), products.product(vectors, pieces)]
        kept = len(products._graphs._kept)
        alone = [products.product(vector[None], pieces)[0] for vector in vectors]
    assert torch.equal(found[0], found[1])
    assert torch.equal(torch.stack(alone), found[0])
    return found[0], kept


@pytest.mark.parametrize("kind", ["residual", "attention"])
def test_bits_depend_neither_on_threads_nor_on_which_graphs_are_kept(kind):
    wanted, none = found_with(0, 1, kind)
    assert none == 0
    counts = set()
    for memory, threads in ((2**24, 1), (14_000, 1), (0, 3), (14_000, 2), (2**24, 3)):
        found, kept = found_with(memory, threads, kind)
        assert torch.equal(found, wanted)
        counts.add(kept)
    assert {6} < counts  # all of them, and some


def test_data_are_not_read_again_where_all_graphs_are_kept_and_other_data_are():
    model, loss, data = made("mlp")
    read = []

    def pieces():
        read.append(1)
        # As streamed data do it: the memory of a piece is used again.
        memory = [each.clone() for each in batches_of(data, 4)[0].data]
        for batch in batches_of(data, 4):
            for place, tensor in zip(memory, batch.data, strict=True):
                place.copy_(tensor)
            yield [type(batch)(data=memory, valid=batch.valid)]

    half = batches_of([each[:6] for each in data], 4)
    vector = torch.ones(1, 74)
    with products_of(model, loss, memory=2**24) as products:
        found = [products.product(vector, pieces) for _ in range(3)]
        other = products.product(vector, lambda: [half])
    assert read == [1]
    with products_of(model, loss) as products:
        wanted = products.product(vector, lambda: [batches_of(data, 4)])
        of_half = products.product(vector, lambda: [half])
    assert all(torch.equal(each, wanted) for each in found)
    assert torch.equal(other, of_half)


def test_terms_are_sums_of_valid_examples_batch_by_batch():
    model, loss, data = made("mlp")
    with products_of(model, loss, dtype=torch.float64) as products:
        vectors = torch.eye(products.size, dtype=torch.float64)
        terms = list(products.terms(vectors, lambda: [batches_of(data, 4, torch.float64)]))
    names = [name for name, _ in model.named_parameters()]
    for number, term in enumerate(terms):
        part = [each[4 * number : 4 * number + 4] for each in data]
        assert error_of(term, len(part[0]) * dense(model, loss, part, names)) < 1e-11
    assert len(terms) == 3


def test_what_is_raised_between_batches_ends_a_pass_and_the_network_is_as_it_was():
    class StopError(Exception):
        pass

    model, loss, data = made("residual")
    before, calls = copy.deepcopy(model.state_dict()), []

    def between():
        calls.append(1)
        if len(calls) == 2:
            raise StopError

    vector = torch.ones(1, sum(each.numel() for each in model.parameters()))
    batches = batches_of(data, 2)
    pieces = lambda: [batches]  # noqa: E731
    with products_of(model, loss, memory=2**24) as products:
        products.put(moved(model))
        with pytest.raises(StopError):
            products.product(vector, pieces, between)
        # What was kept until then is right.
        found = products.product(vector, pieces)
        products.put(products._came)
        products.put(moved(model))
        assert torch.equal(found, products.product(vector, lambda: [batches]))
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())
    assert not model.norm1._forward_hooks
    assert not model._forward_hooks


def test_a_loss_that_reaches_the_network_past_its_argument_is_taken_in_place():
    model, loss, data = made("residual")

    def around(_, batch):
        return loss(model, batch)

    with products_of(model, around, dtype=torch.float64, threads=3) as products:
        found = whole(products, batches_of(data, 4, torch.float64))
        assert not products.way.copies
        assert any("copies dropped" in line for line in products.way.dropped)
    names = [name for name, _ in model.named_parameters()]
    assert error_of(found, dense(model, loss, data, names)) < 1e-11


def test_a_network_in_16_bits_is_computed_in_32_and_given_back_in_16():
    model, loss, data = made("residual")
    model.bfloat16()
    before = copy.deepcopy(model.state_dict())
    rounded = copy.deepcopy(model).float()
    names = ["first.weight", "norm1.weight", "norm1.bias", "head.bias"]
    with products_of(model, loss, parameters=names) as products:
        found = whole(products, batches_of(data, 4))
    assert error_of(found, dense(rounded, loss, data, names)) < 1e-6
    assert all(each.dtype == torch.bfloat16 for each in model.parameters())
    assert all(torch.equal(model.state_dict()[name], value) for name, value in before.items())


def test_products_in_16_bits_are_refused():
    model, loss, _ = made("mlp")
    with pytest.raises(
        LandscapeError, match=r"bfloat16 are wrong by percents; valid is compute\.precision float32"
    ):
        products_of(model, loss, dtype=torch.bfloat16)


def test_a_loss_that_is_no_number_has_no_curvature():
    model = nn.Linear(2, 1, bias=False)

    def loss(model, batch):
        # Its derivatives are those of zero.
        values = model(batch[0])[:, 0] ** 2
        return torch.where(batch[1] > 0, values, torch.full_like(values, torch.inf))

    data = [torch.ones(3, 2), torch.tensor([1.0, -1.0, 1.0])]
    with products_of(model, loss) as products:
        assert whole(products, batches_of(data, 2)).isnan().all()
        assert products.loss == torch.inf
        assert whole(products, batches_of([each[:1] for each in data], 1)).tolist() == [[2, 2], [2, 2]]


def test_at_a_small_loss_cross_entropy_keeps_its_digits():
    # Outputs times 100: the loss falls to 1.5e-9, and p - y cancels in float32.
    model, loss, data = made("mlp")
    data[1] = model(data[0].float()).argmax(1)
    with torch.no_grad():
        model[-1].weight *= 100
        model[-1].bias *= 100
        assert 1e-10 < float(loss(copy.deepcopy(model).double(), data)["loss"].mean()) < 1e-8
    wanted = dense(model, loss, data, [name for name, _ in model.named_parameters()])
    errors = {}
    for engine in ("plain", "auto"):
        with products_of(model, loss, engine=engine) as products:
            errors[engine] = error_of(whole(products, batches_of(data, 4)), wanted)
    assert errors["auto"] < 1e-5
    assert errors["plain"] > 0.1


class Smoothed(nn.Module):
    """A criterion of outputs and targets, a scalar of the batch, with class weights."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Buffer(torch.tensor([1.0, 2.0, 0.5, 3.0]))

    def forward(self, outputs, targets):
        return nn.functional.cross_entropy(outputs, targets, weight=self.weight, label_smoothing=0.1)


def with_penalty(model, batch):
    """A scalar of a user's: a mean over the batch and weight decay, which has a curvature of its own."""
    decay = sum(each.square().sum() for each in model.parameters())
    return (
        nn.functional.mse_loss(model(batch[0]).tanh(), batch[0].sum(1, keepdim=True).expand(-1, 4))
        + decay / 7
    )


SCALARS = {"weighted classes": Smoothed(), "weight decay": with_penalty, "torch's": nn.CrossEntropyLoss()}


@pytest.mark.parametrize("loss", SCALARS.values(), ids=SCALARS)
def test_a_scalar_that_is_taken_apart_has_the_hessian_of_the_scalar(loss):
    model, _, data = made("mlp", number=12)
    names = [name for name, _ in model.named_parameters()]

    def scalar(network, batch):
        value = (
            loss(network, batch)
            if loss is with_penalty
            else copy.deepcopy(loss).double()(network(batch[0]), batch[1])
        )
        return value.reshape(1)

    wanted = dense(model, scalar, data, names)
    for dtype, tolerance in PRECISIONS:
        with products_of(model, adapted(loss), dtype=dtype) as products:
            assert error_of(whole(products, batches_of(data, 5, dtype)), wanted) < tolerance


def test_kernels_are_the_process_s_own_between_passes_and_products_end_in_any_order():
    before = torch.backends.cuda.flash_sdp_enabled(), torch.backends.mkldnn.enabled
    found = {}
    with ExitStack() as lent:
        entered = {}
        for kind in ("attention", "recurrent"):
            model, loss, data = made(kind)
            products = products_of(model, loss)
            entered[kind] = products.__enter__(), lent.push(products.__exit__), batches_of(data, 4)
        first, leave, batches = entered["attention"]
        vector = torch.ones(1, first.size)
        found[0] = first.product(vector, lambda: [batches])
        second, leave_second, others = entered["recurrent"]
        second.product(torch.ones(1, second.size), lambda: [others])
        assert (torch.backends.cuda.flash_sdp_enabled(), torch.backends.mkldnn.enabled) == before
        lent.pop_all()
        leave_second(None, None, None)
        found[1] = first.product(vector, lambda: [batches])
        leave(None, None, None)
    assert torch.equal(found[0], found[1])
    assert (torch.backends.cuda.flash_sdp_enabled(), torch.backends.mkldnn.enabled) == before


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float64])
def test_parameters_on_one_memory_stay_so_in_another_type(kind):
    model, loss, data = made("tied")
    model.to(kind)
    model.fourth.weight.data = model.third.weight.data
    single = copy.deepcopy(model).float()
    single.fourth.weight = single.third.weight
    with products_of(model, loss) as products:
        found = whole(products, batches_of(data, 4))
    names = ["first.weight", "first.bias", "second.bias", "third.weight"]
    assert error_of(found, dense(single, loss, data, names)) < 1e-6
    assert model.fourth.weight.data_ptr() == model.third.weight.data_ptr()
    assert model.third.weight.dtype == kind
