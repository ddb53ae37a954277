"""Several checkpoints in one configuration, and which of what they hold."""

import pytest

from mpi_landscape.configuration import reading
from mpi_landscape.errors import LandscapeError

TEXT = "model: {{name: resnet20, checkpoint: {checkpoint}}}\ndata: digits\n{rest}\n"


def file(tmp_path, checkpoint, rest="output: out/s.h5"):
    path = tmp_path / "mine.yaml"
    path.write_text(TEXT.format(checkpoint=checkpoint, rest=rest))
    return path


@pytest.mark.parametrize(
    ("checkpoint", "output", "expected", "why"),
    [
        ("[a.pt, b.pt]", "out/{checkpoint}.h5", ["out/a.h5", "out/b.h5"], "their own names"),
        ("[r/a/final.pt, r/b/final.pt]", "{checkpoint}.h5", ["a_final.h5", "b_final.h5"], "what tells them apart"),
        (
            "[r/a/x/final.pt, r/b/x/final.pt, r/b/y/final.pt]",
            "{checkpoint}.h5",
            ["a_x_final.h5", "b_x_final.h5", "b_y_final.h5"],
            "as much as is needed",
        ),
        ("[m/checkpoint-1.5, m/checkpoint-2/]", "{checkpoint}.h5", ["checkpoint-1.5.h5", "checkpoint-2.h5"], "folders"),
        ("[a.pt, a.ckpt]", "{checkpoint}.h5", ["a-1.h5", "a-2.h5"], "endings alone"),
        ("[a/x.pth.tar, a/y.safetensors]", "{checkpoint}.h5", ["x.h5", "y.h5"], "endings of two words"),
        ("[b.pt, a.pt, c.pt]", "out/s.v2.h5", ["out/s.v2-1.h5", "out/s.v2-2.h5", "out/s.v2-3.h5"], "numbers"),
        ("[a.pt]", "out/s.h5", ["out/s-1.h5"], "a list of one is a list"),
        ("a.pt", "out/{checkpoint}.h5", ["out/{checkpoint}.h5"], "a name is no list"),
    ],
)  # fmt: skip
def test_every_checkpoint_has_an_output_of_its_own(tmp_path, checkpoint, output, expected, why):
    found = reading.load_surfaces(file(tmp_path, checkpoint, f"output: '{output}'"))
    assert [each.output for each in found] == expected, why
    given = [each.model.checkpoint for each in found]
    assert given == checkpoint.strip("[]").split(", "), why


def test_beside_a_training_the_surfaces_lie_in_its_folder(tmp_path):
    rest = "training: {output: runs/x, epochs: 1}"
    found = reading.load_surfaces(file(tmp_path, "[runs/x/epoch_0001.pt, runs/x/final.pt]", rest))
    assert [each.output for each in found] == ["runs/x/surface-1.h5", "runs/x/surface-2.h5"]


@pytest.mark.parametrize(
    ("checkpoint", "rest", "words"),
    [
        ("[]", "output: s.h5", "model.checkpoint is a list of 0; expected 1 to 10000"),
        ("[a.pt, 3]", "output: s.h5", "model.checkpoint[1] is 3; expected the name"),
        ("[a.pt, null]", "output: s.h5", "model.checkpoint[1] is null"),
        ("[a.pt, [b.pt]]", "output: s.h5", "model.checkpoint[1] is ['b.pt']"),
        ("[a.pt, a.pt]", "output: s.h5", "has 'a.pt' twice"),
        ("[a.pt, b.pt]", "", "output is null, with several checkpoints"),
        ("[a.pt, b.pt]", "output: 3", "output is 3"),
    ],
)
def test_a_list_of_anything_else_is_refused(tmp_path, checkpoint, rest, words):
    path = file(tmp_path, checkpoint, rest)
    with pytest.raises(LandscapeError) as caught:
        reading.load_surfaces(path)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)


@pytest.mark.parametrize("read", [reading.load, reading.load_members])
def test_who_takes_one_checkpoint_refuses_a_list(tmp_path, read):
    path = file(tmp_path, "[a.pt, b.pt]")
    with pytest.raises(LandscapeError, match=r"model.checkpoint is a list of 2; only surface takes several"):
        read(path)
    (one,) = reading.load_surfaces(path, ["model.checkpoint=b.pt"])
    assert (one.model.checkpoint, one.output) == ("b.pt", "out/s.h5")


def test_an_end_has_the_key_and_the_part_of_the_model_unless_it_says_its_own(tmp_path):
    rest = """
directions:
  alpha: {kind: difference, to: b.pt}
  beta: {kind: difference, to: c.pt, key: ., part: teacher}
"""
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"model: {{name: resnet20, checkpoint: a.pt, key: ema.module, part: student}}\ndata: digits\n{rest}"
    )
    read = reading.load(path)
    alpha, beta = read.directions.alpha, read.directions.beta
    assert (read.model.key, read.model.part) == ("ema.module", "student")
    assert (alpha.key, alpha.part) == ("ema.module", "student")
    assert (beta.key, beta.part) == (".", "teacher")
    assert reading.load_text(reading.to_yaml(read), where="x") == read


def test_key_and_part_are_of_a_start_and_not_of_what_the_training_leaves(tmp_path):
    path = tmp_path / "mine.yaml"
    text = "model: {name: resnet20, key: ema, CHECKPOINT}\ndata: digits\ntraining: {output: r, epochs: 1, start: a.pt}\n"
    for said, own in (("part: x", True), ("checkpoint: r/final.pt", True), ("checkpoint: b.pt", False)):
        path.write_text(text.replace("CHECKPOINT", said))
        assert reading.load(path).is_own_checkpoint is own
