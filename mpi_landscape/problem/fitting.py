"""Whether a language model can take the tokens of its data; on a GPU, PyTorch would stop the whole process."""

from collections.abc import Mapping
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.collated import Collated

# What configurations of transformers call the places that a network has, of those that have a table of them.
_PLACES = ("n_positions", "max_position_embeddings")


def check_tokens(model: nn.Module, splits: Mapping[str, Dataset[Any]], *, where: str) -> None:
    """Refuse tokens or lengths that a network has no rows for.

    Only where both say so: named texts, and networks of transformers.

    Raises:
        LandscapeError: The network's vocabulary or its table of positions is too small.
    """
    config = getattr(model, "config", None)
    for split, dataset in splits.items():
        source = dataset.dataset if isinstance(dataset, Collated) else dataset
        vocabulary, longest = getattr(source, "vocabulary", None), getattr(source, "longest", None)
        known = getattr(config, "vocab_size", None)
        if isinstance(vocabulary, int) and isinstance(known, int) and vocabulary > known:
            raise LandscapeError(
                f"{where}: data, split {split}: the tokenizer has {vocabulary} tokens, special ones too, and the network's "
                f"vocab_size is {known}; expected at least as many, or the network's own tokenizer"
            )
        places = next(
            (each for name in _PLACES if isinstance(each := getattr(config, name, None), int)), None
        )
        if isinstance(longest, int) and places is not None and longest > places:
            raise LandscapeError(
                f"{where}: data, split {split}: examples have up to {longest} tokens, and the network takes {places}; "
                f"expected a smaller data.arguments.length"
            )
