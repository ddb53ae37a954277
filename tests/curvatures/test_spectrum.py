"""Spectra at a point: against whole matrices, after any stop, on any number of ranks."""

from __future__ import annotations

import json
import math
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

import mpi_landscape
from mpi_landscape.curvatures.sharing import Shared
from mpi_landscape.errors import LandscapeError
from mpi_landscape.storage.spectrum.reader import read_eigenvector, read_spectrum
from tests.curvatures import cases

BATCHES = {"batch_size": 7, "threads": 1, "device": "cpu"}


def spectrum_of(model, **options):
    said = {"largest": 4, "smallest": 3, "probes": 3, "steps": 20, "tolerance": 1e-4, "compute": BATCHES}
    return mpi_landscape.hessian(model, "cross_entropy", cases.data(), **{**said, **options})


def content(path):
    """What a file holds, bit for bit."""
    found = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                found.__setitem__(name, item[...].tobytes()) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


@pytest.mark.parametrize("made", [cases.mlp, cases.convolutional])
@pytest.mark.parametrize(("precision", "accuracy"), [("float32", 1e-6), ("float64", 1e-10)])
def test_both_ends_are_those_of_the_whole_matrix(made, precision, accuracy):
    model = made()
    values = np.linalg.eigvalsh(cases.dense(model))[::-1]
    found = spectrum_of(
        model, tolerance=1e-6 if precision == "float64" else 1e-4, compute={**BATCHES, "precision": precision}
    )
    scale = abs(values).max()
    np.testing.assert_allclose(found.largest, values[:4], rtol=0, atol=accuracy * scale)
    np.testing.assert_allclose(found.smallest, values[-3:], rtol=0, atol=accuracy * scale)
    assert found.ratio == pytest.approx(abs(values[-1] / values[0]), rel=1e-4)


@pytest.fixture(scope="module")
def fitted():
    """A perceptron fitted to a loss of 1e-8, its data, and all of its Hessian's eigenvalues in float64."""
    digits = load_digits()
    images, labels = torch.tensor(digits.data[:300] / 16).float(), torch.tensor(digits.target[:300])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(400):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()

    def loss(state):
        outputs = torch.func.functional_call(model, state, (images.double(),))
        return torch.nn.functional.cross_entropy(outputs, labels)

    wide = {name: each.detach().double() for name, each in model.named_parameters()}
    # Margins grow further and further, which training would take hours for.
    while loss(wide) > 1e-8:
        for name in ("2.weight", "2.bias"):
            wide[name] = (wide[name] * 1.01).float().double()
    model.load_state_dict(wide)
    assert 1e-9 < loss(wide) <= 1e-8
    sizes = [each.numel() for each in wide.values()]

    def of_vector(vector):
        parts = zip(wide.items(), vector.split(sizes), strict=True)
        return loss({name: part.view(each.shape) for (name, each), part in parts})

    start = torch.cat([each.flatten() for each in wide.values()])
    matrix = torch.autograd.functional.hessian(of_vector, start, vectorize=True)
    return model, TensorDataset(images, labels), torch.linalg.eigvalsh(matrix).numpy()


@pytest.mark.parametrize("at", ["center", "grid"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_network_fitted_to_a_loss_of_1e_8_has_right_ends(fitted, at, precision):
    model, data, values = fitted
    found = mpi_landscape.hessian(
        model, "cross_entropy", data, at=at, values="extremes", alpha=(0, 0.1, 2), beta=None,
        compute={"precision": precision, "threads": 1},
    )  # fmt: skip
    ends = (
        (found.lambda_max, found.lambda_min)
        if at == "center"
        else (found.train_lambda_max[0], found.train_lambda_min[0])
    )
    assert ends[0] == pytest.approx(values[-1], rel=1e-4)
    assert ends[1] == pytest.approx(values[0], rel=1e-2)


def test_more_products_than_were_expected_are_no_more_than_all(capfd, monkeypatch):
    monkeypatch.setattr("mpi_landscape.curvatures.searching.expected_ends", lambda _: 3)
    monkeypatch.setattr("mpi_landscape.work.progress._SHORTEST", 0.0)
    monkeypatch.setattr("mpi_landscape.work.progress._GROWTH", 0.0)
    found = spectrum_of(cases.mlp(), probes=1)
    shares = [int(line.split(" %")[0]) for line in capfd.readouterr().err.splitlines() if " of " in line]
    assert len(shares) > 10
    assert max(shares[:-1]) < 100
    assert shares[-1] == 100
    assert found.num_products.sum() > 10


def test_tied_frozen_and_complex_parameters_count_as_they_move():
    torch.manual_seed(0)
    model = cases.Shared()
    values = np.linalg.eigvalsh(cases.dense_of_shared(model))[::-1]
    found = spectrum_of(model, probes=0)
    assert found.num_parameters == values.size
    np.testing.assert_allclose(found.largest, values[:4], rtol=0, atol=1e-6 * values[0])
    np.testing.assert_allclose(found.smallest, values[-3:], rtol=0, atol=1e-6 * values[0])


@pytest.mark.parametrize("made", [cases.mlp, cases.convolutional])
def test_trace_and_norm_are_those_of_the_matrix_where_the_probes_fill_the_space(made):
    model = made()
    matrix = cases.dense(model)
    found = spectrum_of(model, probes=1, steps=500, compute={**BATCHES, "precision": "float64"})
    assert found.trace == pytest.approx(np.trace(matrix), rel=1e-7)
    assert found.frobenius == pytest.approx(np.linalg.norm(matrix), rel=1e-7)
    assert found.moments.trace_stderr == 0
    nodes, weights = found.density()
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(np.sort(nodes), np.linalg.eigvalsh(matrix), atol=1e-7 * abs(nodes).max())
    values = np.maximum(np.linalg.eigvalsh(matrix), 0)
    assert found.effective_dimension(0.1) == pytest.approx((values / (values + 0.1)).sum(), rel=1e-6)


def test_few_probes_know_trace_and_norm_within_their_errors():
    model = cases.mlp()
    matrix = cases.dense(model)
    found = spectrum_of(model, probes=12, steps=8)
    # Five standard errors, themselves from twelve numbers.
    assert abs(found.trace - np.trace(matrix)) < 5 * found.moments.trace_stderr
    # Of a Gaussian probe vᵀHv has the variance 2 |H|² of what is left when the eigenvalues are taken out (Hutchinson).
    left = np.linalg.norm(np.linalg.eigvalsh(matrix)[found.smallest.size : len(matrix) - found.largest.size])
    assert 0 < found.moments.trace_stderr < 1.5 * math.sqrt(2 / 12) * left
    assert abs(found.frobenius - np.linalg.norm(matrix)) < 5 * found.moments.frobenius_stderr
    assert found.density()[1].sum() == pytest.approx(1)


def test_loss_and_gradient_are_those_at_the_point():
    model = cases.mlp()
    state = {name: each.detach().double().requires_grad_() for name, each in model.named_parameters()}
    loss = cases.mean_loss(model, state)
    loss.backward()
    norm = math.sqrt(sum(float((each.grad**2).sum()) for each in state.values()))
    found = spectrum_of(model, probes=0, largest=1, smallest=0)
    assert found.loss == pytest.approx(float(loss.detach()), rel=1e-6)
    assert found.gradient_norm == pytest.approx(norm, rel=1e-5)


def test_extremes_are_the_ends_alone():
    model = cases.convolutional()
    values = np.linalg.eigvalsh(cases.dense(model))
    found = spectrum_of(model, values="extremes", normalized=True)
    assert found.eigenvalues.shape == (2,)
    assert found.lambda_max == pytest.approx(values[-1], rel=1e-5)
    assert found.lambda_min == pytest.approx(values[0], rel=1e-3)
    assert math.isnan(found.trace)
    assert found.num_outliers is None
    assert found.normalized.eigenvalues.shape == (2,)


def test_filter_normalized_eigenvalues_stay_where_a_layer_is_rescaled_and_others_do_not():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False))
    options = {"normalized": True, "probes": 0, "compute": {**BATCHES, "precision": "float64"}}
    before = spectrum_of(model, **options)
    with torch.no_grad():
        model[1].weight.mul_(4)
        model[3].weight.div_(4)
    after = spectrum_of(model, **options)
    np.testing.assert_allclose(after.normalized.eigenvalues, before.normalized.eigenvalues, rtol=1e-7)
    assert after.lambda_max > 2 * before.lambda_max
    # And they are those of D H D.
    matrix = cases.dense(model)
    scale = np.concatenate(
        [
            np.repeat(np.linalg.norm(each.detach().double().numpy(), axis=1), each.shape[1])
            for each in model.parameters()
        ]
    )
    values = np.linalg.eigvalsh(scale[:, None] * matrix * scale)
    np.testing.assert_allclose(after.normalized.largest, values[::-1][:4], rtol=1e-7)


def test_the_parts_have_the_ends_of_their_matrices_and_add_up():
    model = cases.mlp()
    options = {"probes": 1, "steps": 500, "compute": {**BATCHES, "precision": "float64"}}
    whole, first, rest = (
        spectrum_of(model, operator=operator, **options)
        for operator in ("hessian", "gauss_newton", "remainder")
    )
    assert first.trace + rest.trace == pytest.approx(whole.trace, rel=1e-6)
    # The ends of a Gauss-Newton matrix are all above: none of the lower is sought.
    assert first.smallest.size == 0
    assert first.density()[0].min() > -1e-9 * first.lambda_max


def test_a_loss_that_is_not_finite_is_nan_everywhere_and_ends():
    model = cases.mlp()
    with torch.no_grad():
        model[1].weight[0, 0] = math.nan
    found = spectrum_of(model, normalized=True)
    assert np.isnan(found.eigenvalues).all()
    assert np.isnan(found.nodes).all()
    assert not math.isfinite(found.loss)
    assert found.done.all()


def test_the_network_is_left_as_it_was():
    model = cases.convolutional()
    model.train()
    model.first.weight.requires_grad_(False)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    found = spectrum_of(model, probes=1)
    assert found.num_parameters == sum(each.numel() for each in model.parameters()) - 27
    assert model.training
    assert not model.first.weight.requires_grad
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


REFUSED = [
    ({"largest": 300}, r"largest is 300 and smallest is 3, of 124 numbers"),
    ({"largest": 0, "smallest": 0, "probes": 0}, "nothing would be found"),
    ({"split": "validation"}, r"split is validation, which the data do not have; valid are train"),
    ({"compute": {**BATCHES, "precision": "bfloat16"}}, "valid .*are float32 and float64"),
    ({"parameters": ["nothing.*"]}, "'nothing.*' fits no parameter"),
    ({"time_limit": 1e-9}, "is shorter than a part of the spectrum"),
]


@pytest.mark.parametrize(("options", "words"), REFUSED)
def test_what_cannot_be_is_refused_in_one_line(options, words):
    with pytest.raises(LandscapeError, match=words):
        spectrum_of(cases.mlp(), **options)


def test_too_little_memory_is_refused_with_the_setting_that_helps(monkeypatch):
    from mpi_landscape.curvatures import planning

    bytes_of = planning.vector_bytes
    monkeypatch.setattr(planning, "vector_bytes", lambda *given: 2**22 * bytes_of(*given))
    with pytest.raises(
        LandscapeError, match=r"takes \d+ vectors of 124 numbers .* valid are .*hessian.parameters"
    ):
        spectrum_of(cases.mlp())


# A stop in the middle of the ends, just after them, in a probe, in the last one.
@pytest.mark.parametrize("stop_after", [3, 31, 40, 75])
def test_a_spectrum_that_was_ended_goes_on_to_the_same_bits(tmp_path, monkeypatch, stop_after):
    model, options = cases.mlp(), {"probes": 2, "steps": 9, "normalized": True, "eigenvectors": 1}
    spectrum_of(model, output=tmp_path / "whole.h5", **options)
    product, made = Shared.product, []

    def ending(self, *given):
        if len(made) == stop_after:
            raise KeyboardInterrupt
        made.append(1)
        return product(self, *given)

    monkeypatch.setattr(Shared, "product", ending)
    with pytest.raises(KeyboardInterrupt):
        spectrum_of(model, output=tmp_path / "ended.h5", **options)
    monkeypatch.undo()
    before = read_spectrum(tmp_path / "ended.h5")
    assert before.ending is not read_spectrum(tmp_path / "whole.h5").ending
    spectrum_of(model, output=tmp_path / "ended.h5", **options)
    assert content(tmp_path / "ended.h5") == content(tmp_path / "whole.h5")


def test_a_time_limit_ends_it_between_batches_and_it_goes_on(tmp_path, monkeypatch):
    model, options = cases.mlp(), {"probes": 2, "steps": 9}
    whole = spectrum_of(model, output=tmp_path / "whole.h5", **options)
    monkeypatch.setattr("mpi_landscape.curvatures.computing.check_time_limit", lambda *_: None)
    stopped = spectrum_of(model, output=tmp_path / "ended.h5", time_limit=1e-6, **options)
    assert "time limit" in stopped.ending.sentence
    assert not stopped.done.any()
    again = spectrum_of(model, output=tmp_path / "ended.h5", **options)
    np.testing.assert_array_equal(again.nodes, whole.nodes)


def test_the_file_of_another_computation_is_refused(tmp_path):
    path = tmp_path / "spectrum.h5"
    spectrum_of(cases.mlp(), output=path, probes=0)
    for options, what in (
        ({"seed": 2}, "seed"),
        ({"largest": 3}, "ends"),
        ({"operator": "remainder"}, "operator"),
        ({"parameters": ["*.weight"]}, "parameters"),
        ({"compute": {**BATCHES, "precision": "float64"}}, "precision"),
    ):
        with pytest.raises(LandscapeError, match=f"another run, which differs in .*{what}"):
            spectrum_of(cases.mlp(), output=path, **{"probes": 0, **options})
    other = cases.mlp()
    with torch.no_grad():
        other[1].bias[0] += 1
    with pytest.raises(LandscapeError, match="differs in center"):
        spectrum_of(other, output=path, probes=0)


def test_a_damaged_part_is_computed_again(tmp_path):
    path = tmp_path / "spectrum.h5"
    options = {"output": path, "probes": 2, "steps": 9}
    spectrum_of(cases.mlp(), **options)
    before = content(path)
    with h5py.File(path, "r+") as file:
        file["density/nodes"][1, 3] += 1
        file["eigenvectors"][2, 5] += 1
    spectrum_of(cases.mlp(), **options)
    assert content(path) == before


def test_along_an_eigenvector_the_loss_has_the_second_derivative_of_its_eigenvalue(tmp_path):
    model, path = cases.mlp(), tmp_path / "h.h5"
    spectrum = spectrum_of(model, probes=0, eigenvectors=2, output=path)
    for index in (0, 1, -1):
        line = mpi_landscape.landscape(
            model,
            "cross_entropy",
            cases.data(),
            alpha=(-0.02, 0.02, 3),
            beta=None,
            directions={"alpha": {"kind": "eigenvector", "path": str(path), "index": index}},
            compute={**BATCHES, "precision": "float64"},
        )
        step, losses = 0.02, line.train_loss
        second = (losses[0] - 2 * losses[1] + losses[2]) / step**2
        assert second == pytest.approx(spectrum.eigenvalues[index], rel=2e-2)
        vector = read_eigenvector(path, index).vector
        assert np.linalg.norm(vector) == pytest.approx(1, rel=1e-6)
        assert vector[np.abs(vector).argmax()] > 0


def test_a_direction_along_what_is_no_eigenvector_here_is_refused_or_warned_of(tmp_path, capsys):
    model, path = cases.mlp(), tmp_path / "h.h5"
    spectrum_of(model, probes=0, eigenvectors=1, output=path)

    def line(network, index=0, name=path):
        mpi_landscape.landscape(
            network,
            "cross_entropy",
            cases.data(),
            alpha=(-1, 1, 3),
            beta=None,
            directions={"alpha": {"kind": "eigenvector", "path": str(name), "index": index}},
            compute=BATCHES,
        )

    with pytest.raises(LandscapeError, match=r"has no eigenvector 1; it has 0, -1 \(0 is"):
        line(model, 1)
    with pytest.raises(LandscapeError, match="belongs to another network"):
        line(cases.convolutional())
    with pytest.raises(LandscapeError, match="there is no such file"):
        line(model, name=tmp_path / "none.h5")
    other = cases.mlp()
    with torch.no_grad():
        other[1].bias[0] += 1
    line(other)
    assert "at another place than this center" in capsys.readouterr().out


def test_several_checkpoints_have_a_file_each(tmp_path):
    model = cases.mlp()
    for name in ("one", "two"):
        with torch.no_grad():
            model[1].bias[0] += 1
        torch.save(model.state_dict(), tmp_path / f"{name}.pt")
    places = [tmp_path / "one.pt", tmp_path / "two.pt"]
    before = {name: each.clone() for name, each in model.state_dict().items()}
    first, second = spectrum_of(
        model, at=places, output=tmp_path / "at_{checkpoint}.h5", probes=0, largest=1, smallest=1
    )
    assert [Path(each.path).name for each in (first, second)] == ["at_one.h5", "at_two.h5"]
    here = spectrum_of(model, probes=0, largest=1, smallest=1)
    assert second.lambda_max == here.lambda_max
    assert first.lambda_max != here.lambda_max
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


def test_inspect_says_it_all(tmp_path, capsys):
    path = tmp_path / "h.h5"
    spectrum = spectrum_of(cases.mlp(), normalized=True, output=path)
    from mpi_landscape import inspect

    def told(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            inspect.main([*words, str(path)])
        assert ended.value.code == 0
        return capsys.readouterr().out

    text, facts = told(), json.loads(told("--json"))
    for words in (
        "sharpness ",
        "least ",
        "trace ",
        "Frobenius norm",
        "outliers ",
        "dimension ",
        "normalized ",
    ):
        assert words in text
    assert facts["spectrum"]["largest"][0] == spectrum.lambda_max
    assert facts["normalized"]["trace"] == spectrum.normalized.trace
