"""Items of several sizes: padded batches of about equal ones, the same on any number of ranks, resident and streamed."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

import mpi_landscape
from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.collated import Collated, by_length, padding

SCRIPT = """
import sys
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
import mpi_landscape

torch.manual_seed(0)
texts = [torch.randint(1, 20, (length,)) for length in [3, 12, 5, 9, 2, 7, 11, 4] * 8]

class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.gru, self.head = nn.Embedding(20, 8), nn.GRU(8, 8, batch_first=True), nn.Linear(8, 3)
    def forward(self, words):
        return self.head(self.gru(self.embedding(words))[0]).transpose(1, 2)

def collate(items):
    words = pad_sequence(items, batch_first=True)
    return words, torch.where(words > 0, words % 3, -100)

output, how = sys.argv[1:]
surface = mpi_landscape.landscape(
    Tagger(), nn.CrossEntropyLoss(), texts, collate_fn=collate, alpha=(-1, 1, 5), beta=(-1, 1, 3), output=output,
    compute={"batch_size": 6, "data": how, "data_shards": 2, "points_per_tile": 4},
)
print("progress", surface.progress)
"""


def test_padded_batches_are_the_same_on_any_number_of_ranks(tmp_path, standing, contents):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    for size, how in ((1, "resident"), (3, "resident"), (2, "streamed")):
        done = standing(size, str(script), str(tmp_path / f"{size}.h5"), how)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("progress 1.0") == size
        assert "items of 2 to 12 numbers, batches by length" in done.stdout
    assert contents(tmp_path / "1.h5") == contents(tmp_path / "3.h5") == contents(tmp_path / "2.h5")


class Words(nn.Module):
    """Sums over words; with `masked` those that are padding do not count."""

    def __init__(self, masked=True):
        super().__init__()
        self.embedding, self.masked = nn.Embedding(30, 4), masked

    def forward(self, words):
        found = self.embedding(words)
        return (found * (words > 0)[..., None] if self.masked else found).mean(2).sum(1)


TEXTS = [torch.randint(1, 30, (length,)) for length in [1, 9, 4, 6, 2, 8] * 5]


def squares(model, words):
    return model(words) ** 2


def pad(items):
    return pad_sequence(items, batch_first=True)


def landscape(model, **how):
    return mpi_landscape.landscape(
        model, squares, TEXTS, collate_fn=pad, alpha=(-1, 1, 3), beta=None, output="surface.h5", **how
    )


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_network_that_sees_the_padding_is_refused():
    with pytest.raises(
        LandscapeError,
        match=r"must not depend on the other examples of its batch.*what is padding must be masked",
    ):
        landscape(Words(masked=False))


def test_estimates_of_padded_batches_are_refused():
    with pytest.raises(
        LandscapeError, match=r"compute\.relative_error: split train is in batches that a collate_fn pads"
    ):
        landscape(Words(), relative_error=0.1)


def test_estimates_of_examples_that_count_differently_are_refused():
    def loss(model, x):
        return {"loss": model(x)[:, 0] ** 2, "count": 1 + (x[:, 0] > 0).float()}

    with pytest.raises(
        LandscapeError, match=r"compute\.relative_error: the loss says by how much each example counts"
    ):
        mpi_landscape.landscape(
            nn.Linear(3, 1),
            loss,
            torch.randn(300, 3),
            alpha=(-1, 1, 3),
            beta=None,
            output="x.h5",
            relative_error=0.1,
        )


def test_a_split_in_which_nothing_counts_is_refused():
    def loss(model, x):
        return {"loss": 0 * model(x)[:, 0], "count": torch.zeros(len(x))}

    with pytest.raises(LandscapeError, match="no example of split train counts"):
        mpi_landscape.landscape(
            nn.Linear(3, 1), loss, torch.randn(9, 3), alpha=(-1, 1, 3), beta=None, output="x.h5"
        )
    with pytest.raises(LandscapeError, match="'count' has values"):
        mpi_landscape.landscape(
            nn.Linear(3, 1), lambda m, x: {"loss": m(x)[:, 0], "count": x[:, 0]}, torch.randn(9, 3),
            alpha=(-1, 1, 3), beta=None, output="x.h5",
        )  # fmt: skip


def test_the_norm_of_the_gradient_is_that_of_the_mean_over_what_counts():
    model, x = nn.Linear(3, 1), torch.randn(12, 3)
    counts = torch.arange(12.0) % 3

    def loss(model, batch):
        rows, weight = batch
        return {"loss": weight * model(rows)[:, 0] ** 2, "count": weight}

    surface = mpi_landscape.landscape(
        model, loss, (x, counts), alpha=(-1, 1, 3), beta=None, output="x.h5",
        directions={"alpha": {"kind": "random", "seed": 1, "ignore": []}},
        compute={"quantities": ["loss", "gradient_norm"], "batch_size": 5},
    )  # fmt: skip
    mean = (counts * model(x)[:, 0] ** 2).sum() / counts.sum()
    gradient = torch.cat([each.flatten() for each in torch.autograd.grad(mean, list(model.parameters()))])
    np.testing.assert_allclose(surface.values["train_loss"][1], mean.item(), rtol=1e-6)
    np.testing.assert_allclose(surface.values["train_gradient_norm"][1], gradient.norm().item(), rtol=1e-5)


@pytest.mark.parametrize(
    ("items", "words"),
    [
        (lambda items: torch.cat(items), "of shape"),
        (lambda items: {"number": len(items)}, "makes a dict without tensors"),
        (lambda items: 1 / 0, "raised ZeroDivisionError for"),
        (lambda items: (pad(items), torch.tensor(1.0)), "makes 1 of shape () of"),
    ],
)
def test_a_collate_fn_without_a_row_per_item_is_refused(items, words):
    with pytest.raises(LandscapeError) as caught:
        mpi_landscape.landscape(Words(), squares, TEXTS, collate_fn=items, beta=None, output="x.h5")
    assert words in str(caught.value)
    assert "collate_fn of split train" in str(caught.value).replace("'", "")


def test_a_collate_fn_that_draws_is_refused():
    def drawing(items):
        return pad([item[torch.randperm(len(item))] for item in items])

    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(30, 1)

        def forward(self, words):
            return self.embedding(words[:, 0])[:, 0]

    with pytest.raises(LandscapeError, match="another one on a second reading"):
        mpi_landscape.landscape(First(), squares, TEXTS, collate_fn=drawing, beta=None, output="x.h5")


def test_a_thousand_sentences_of_5_to_256_tokens_are_hardly_padded():
    lengths = np.random.default_rng(0).integers(5, 257, 1000)
    assert padding(lengths[by_length(lengths)], 32) < 1.1
    assert padding(lengths[by_length(lengths)], 64) < 1.15
    # The order of the data set makes nearly twice as many.
    assert padding(lengths, 32) > 1.7


def test_items_of_one_size_stay_in_their_order():
    assert Collated([torch.zeros(3)] * 200, pad).lengths() is None
    found = Collated([torch.zeros(1 + index % 2) for index in range(200)], pad)
    assert found.lengths().tolist() == [1, 2] * 100
    assert found.reordered(by_length(found.lengths())).reordered(np.arange(200)[::-1]).number(0) == 198
