"""Mistakes, each to be answered in one line that names it."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from tests.relatives.case import Asked, refused, right
from tests.relatives.small import Items, cross_entropy, mlp, vectors

KIND, TITLE = 10, "mistakes that were answered by raw errors"
MISTAKE = "a mistake"


def on_vectors(made, loss="cross_entropy"):
    """A problem whose data are made of the vectors on which the right mean is taken, all at once."""
    net, data = mlp(), vectors()
    return Asked(
        net=net,
        loss=loss,
        data=made(data),
        mean=lambda net: float(cross_entropy(net, data[:]).detach().double().mean()),
    )


def mistake(what, says):
    return refused(what, MISTAKE, says=says)


@mistake("a function as the model", "function")
def function_model(folder):
    return Asked(net=lambda x: x, data=vectors())


@mistake("a class as the model", "class")
def class_model(folder):
    return Asked(net=nn.Linear, data=vectors())


@mistake("a state dictionary as the model", "state dict")
def state_model(folder):
    return Asked(net=mlp().state_dict(), data=vectors())


@mistake("None as the model", "model")
def none_model(folder):
    return Asked(net=None, data=vectors())


@mistake("parameters on the meta device", "meta")
def meta_model(folder):
    with torch.device("meta"):
        return Asked(net=mlp(), data=vectors())


@mistake("a network without parameters", "no parameters")
def no_parameters(folder):
    return Asked(net=nn.Tanh(), data=vectors())


class WholeNumbers(nn.Module):
    """A layer with weights of int8, as a buffer or as a parameter, and a scale."""

    def __init__(self, *, trainable=False):
        super().__init__()
        weight = torch.randint(-127, 127, (8, 4), dtype=torch.int8)
        if trainable:
            self.weight = nn.Parameter(weight, requires_grad=False)
        else:
            self.register_buffer("weight", weight)

    def forward(self, x):
        return x @ (self.weight.float() / 100).T


def on_whole_numbers(**options):
    return nn.Sequential(WholeNumbers(**options), nn.Tanh(), nn.Linear(8, 3))


@right("a base in int8, as a buffer, which stays")
def whole_numbers(folder):
    return Asked(net=on_whole_numbers(), data=vectors())


@right("a base in int8, as a parameter, which stays", says="no floating-point numbers")
def whole_numbers_as_parameter(folder):
    return Asked(net=on_whole_numbers(trainable=True), data=vectors())


@mistake("a line that would move a base in int8", "cannot move")
def line_of_whole_numbers(folder):
    end = on_whole_numbers()
    return Asked(
        net=on_whole_numbers(),
        data=vectors(),
        options={"directions": {"alpha": {"kind": "difference", "to": end}}},
    )


@mistake("a network that is quantized as a whole", "0 is quantized")
def quantized_network(folder):
    return Asked(net=torch.ao.quantization.quantize_dynamic(mlp(), {nn.Linear}), data=vectors())


@mistake("a split called 0", "0")
def split_zero(folder):
    return Asked(net=mlp(), data={0: vectors()})


@mistake("a split called val/clean", "val/clean")
def split_slash(folder):
    return Asked(net=mlp(), data={"val/clean": vectors()})


@mistake("a split called train set", "train set")
def split_space(folder):
    return Asked(net=mlp(), data={"train set": vectors()})


@right("numpy's numbers in an axis")
def numpy_axis(folder):
    alpha = (np.int64(-1), np.float32(1.5), np.int32(4))
    return Asked(net=mlp(), data=vectors(), options={"alpha": alpha, "beta": np.array([-1, 2, 3])})


@right("nn.CrossEntropyLoss() as the loss")
def loss_module(folder):
    return on_vectors(lambda data: data, nn.CrossEntropyLoss())


@mistake("a loss that is a class", "class")
def loss_class(folder):
    return Asked(net=mlp(), loss=nn.CrossEntropyLoss, data=vectors())


@right("a loss that returns its mean")
def mean_loss(folder):
    def loss(model, batch):
        return cross_entropy(model, batch).mean()

    return on_vectors(lambda data: data, loss)


@right("a loss that is known example by example alone", says="every example is a batch of its own")
def opaque_loss(folder):
    def loss(model, batch):
        losses = cross_entropy(model, batch)
        return torch.dot(losses, torch.full_like(losses, 1 / len(losses)))

    return on_vectors(lambda data: data, loss)


@mistake("a loss that returns the root of a mean", "must not depend on the other examples")
def root_of_mean_loss(folder):
    def loss(model, batch):
        return cross_entropy(model, batch).square().mean().sqrt()

    return Asked(net=mlp(), loss=loss, data=vectors())


@mistake("a loss that returns nothing", "NoneType")
def no_loss(folder):
    return Asked(net=mlp(), loss=lambda model, batch: None, data=vectors())


@mistake("a loss of integers", "int64")
def integer_loss(folder):
    return Asked(net=mlp(), loss=lambda model, batch: model(batch[0]).argmax(1), data=vectors())


@mistake("a loss of one argument", "loss")
def one_argument(folder):
    return Asked(net=mlp(), loss=lambda model: model, data=vectors())


@mistake("a loss under a name that there is not", "cross_entropy")
def unknown_loss(folder):
    return Asked(net=mlp(), loss="crossentropy", data=vectors())


@right("a DataLoader as the data, shuffled, without its last batch", says="not its order and drop_last")
def loader(folder):
    return on_vectors(lambda data: DataLoader(data, batch_size=8, shuffle=True, drop_last=True))


@right("an iterable data set")
def iterable(folder):
    class Stream(IterableDataset):
        def __init__(self, data):
            self.data = data

        def __iter__(self):
            return iter(self.data)

    return on_vectors(Stream)


@mistake("no examples", "empty")
def empty(folder):
    return Asked(net=mlp(), data=TensorDataset(torch.empty(0, 4), torch.empty(0, dtype=torch.long)))


@mistake("a label beyond the outputs, in the middle of the data", "label")
def label_beyond(folder):
    data = vectors()
    data.tensors[1][51] = 7
    return Asked(net=mlp(), data=data)


@mistake("inputs of another width", "shape")
def other_width(folder):
    return Asked(net=mlp(), data=TensorDataset(torch.randn(60, 5), torch.randint(0, 3, (60,))))


@mistake("items of different sizes", "size")
def ragged(folder):
    return Asked(net=mlp(), data=Items(lambda i: (torch.randn(4 + (i == 40)), 0)))


@mistake("an item that raises", "item 41")
def item_raises(folder):
    def item(index):
        if index == 41:
            raise OSError("truncated image")
        return torch.ones(4) * index, index % 3

    return Asked(net=mlp(), data=Items(item))


@mistake("an unknown field of compute", "batchsize")
def unknown_field(folder):
    return Asked(net=mlp(), data=vectors(), options={"compute": {"batchsize": 3}})


@mistake("an axis of two numbers", "alpha")
def short_axis(folder):
    return Asked(net=mlp(), data=vectors(), options={"alpha": (-1, 1)})


@mistake("a tensor as the data", "data")
def tensor_data(folder):
    return Asked(net=mlp(), data=torch.randn(60, 4))


@right("a pair of tensors as the data")
def pair_of_tensors(folder):
    return on_vectors(lambda data: data.tensors)


@mistake("a network that raises for some examples alone", "loss")
def raises_in_the_middle(folder):
    data = vectors(200)
    data.tensors[0][101] = 99.0

    def loss(model, batch):
        if (batch[0] == 99).any():
            raise ValueError("found an outlier")
        return cross_entropy(model, batch)

    return Asked(net=mlp(), loss=loss, data=data)
