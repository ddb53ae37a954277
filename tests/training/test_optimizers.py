import numpy as np
import pytest
import torch
from torch import nn

from mpi_landscape.configuration.sections.training import Phase
from mpi_landscape.errors import LandscapeError
from mpi_landscape.training.recipe import make_optimizer


def phase(**changes):
    return Phase(**{"epochs": 1, "optimizer": "sgd", "batch_size": 3, "learning_rate": 0.1, **changes})


def sgd(weights, gradients, how):
    """Momentum as in Sutskever et al. 2013, in the form of torch.optim.SGD's documentation."""
    velocity = np.zeros_like(weights)
    for gradient in gradients:
        gradient = gradient + how.weight_decay * weights
        velocity = how.momentum * velocity + gradient
        weights = weights - how.learning_rate * (
            gradient + how.momentum * velocity if how.nesterov else velocity
        )
        yield weights


def adam(weights, gradients, how):
    """Kingma and Ba 2015, arXiv:1412.6980, algorithm 1, with weight decay in the gradient."""
    first, second = np.zeros_like(weights), np.zeros_like(weights)
    for time, gradient in enumerate(gradients, start=1):
        gradient = gradient + how.weight_decay * weights
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        unbiased = first / (1 - 0.9**time), second / (1 - 0.999**time)
        weights = weights - how.learning_rate * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
        yield weights


@pytest.mark.parametrize(
    ("formula", "changes"),
    [
        (sgd, {}),
        (sgd, {"momentum": 0.9}),
        (sgd, {"momentum": 0.9, "nesterov": True}),
        (sgd, {"momentum": 0.5, "weight_decay": 0.2}),
        (adam, {}),
        (adam, {"weight_decay": 0.2}),
        (adam, {"learning_rate": 1e-3}),
    ],
)
def test_steps_are_those_of_the_formula(formula, changes):
    how = phase(optimizer=formula.__name__, **changes)
    random = np.random.default_rng(0)
    weights, gradients = random.normal(size=5), random.normal(size=(6, 5))
    parameter = nn.Parameter(torch.tensor(weights))
    optimizer = make_optimizer([parameter], how)
    for gradient, wanted in zip(gradients, formula(weights, gradients, how), strict=True):
        parameter.grad = torch.tensor(gradient)
        optimizer.step()
        np.testing.assert_allclose(parameter.detach().numpy(), wanted, rtol=1e-12)


def test_an_unknown_optimizer_is_refused_with_those_there_are():
    with pytest.raises(LandscapeError, match="'lion' is not known; valid are sgd, adam"):
        make_optimizer([nn.Parameter(torch.zeros(1))], phase(optimizer="lion"))


def test_a_network_with_nothing_to_train_is_refused():
    with pytest.raises(LandscapeError, match="nothing to train"):
        make_optimizer([nn.Parameter(torch.zeros(1), requires_grad=False)], phase())
