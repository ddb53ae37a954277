"""The engine in the main job: the same bits on any number of ranks, kept in the file, refused where it cannot be."""

import h5py
import numpy as np
import pytest
import torch

from mpi_landscape import inspect, surface
from mpi_landscape.evaluation import choosing
from mpi_landscape.evaluation.engine.channels_last import CHANNELS_LAST
from mpi_landscape.evaluation.engine.folding import FOLDED
from mpi_landscape.evaluation.engine.steps import engine_of
from mpi_landscape.placement import memory
from mpi_landscape.storage.surface.reader import read_attributes, read_surface
from tests.exhaustive import rows

RESNET = """
model: {{name: resnet8, arguments: {{width: 4, input_size: [1, 8, 8]}}}}
data: {{name: digits, arguments: {{limit: 200}}}}
grid: {{alpha: [-1, 0.5, 3], beta: [-0.25, 1, 5]}}
compute: {{data_shards: 2, batch_size: 40, points_per_tile: 4, device: cpu}}
output: {folder}/reference.h5
"""
PERCEPTRON = RESNET.replace("name: resnet8, arguments: {{width: 4,", "name: mlp, arguments: {{")
TRANSFORMER = """
model:
  name: timm/vit_tiny_patch16_224
  arguments: {{img_size: 8, patch_size: 2, in_chans: 1, num_classes: 10, embed_dim: 192, depth: 1, num_heads: 3}}
data: {{name: digits, arguments: {{limit: 200}}}}
grid: {{alpha: [-1, 0.5, 3], beta: [-0.25, 1, 5]}}
compute: {{data_shards: 2, batch_size: 40, points_per_tile: 4, device: cpu}}
output: {folder}/reference.h5
"""

ENGINES = [
    (RESNET, [], "fused", "what is tried by itself"),
    (RESNET, ["compute.engine=plain"], "the plain network", "nothing"),
    (RESNET, ["compute.engine=[folded]"], "normalisations folded", "one step"),
    (RESNET, ["compute.engine=[folded, channels_last]"], "channels-last", "two steps"),
    (RESNET, ["compute.precision=bfloat16"], "fused", "fewer bits"),
    (PERCEPTRON, [], "first layer (1) once per tile", "a first layer"),
    (TRANSFORMER, [], "4 linear layers of packed weights", "linear layers on tokens"),
]


@pytest.fixture
def configured(tmp_path):
    def write(text):
        path = tmp_path / "network.yaml"
        path.write_text(text.format(folder=tmp_path))
        return str(path)

    return write


def settings_of(settings):
    return [part for setting in settings for part in ("--set", setting)]


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "settings", "said", "reason"), rows({row[-1]: row for row in ENGINES}, "what is tried by itself")
)
def test_every_engine_gives_the_same_bits_on_any_number_of_ranks(
    tmp_path, standing, contents, configured, text, settings, said, reason
):
    if text is TRANSFORMER:
        pytest.importorskip("timm", reason="no timm: pip install timm")
    program = ("-m", "mpi_landscape.surface", configured(text), *settings_of(settings))
    alone = standing(1, *program)
    assert alone.returncode == 0, alone.stderr
    assert said in next(line for line in alone.stdout.splitlines() if line.startswith("engine "))
    reference = contents(tmp_path / "reference.h5")
    for size in (2, 3):
        output = tmp_path / f"{size}.h5"
        done = standing(size, *program, "--output", str(output))
        assert done.returncode == 0, done.stderr
        assert contents(output) == reference, f"{size} ranks"


def test_the_engine_that_is_chosen_by_itself_gives_the_losses_of_the_plain_network(
    tmp_path, standing, configured
):
    program = ("-m", "mpi_landscape.surface", configured(RESNET))
    assert standing(1, *program).returncode == 0
    plain = tmp_path / "plain.h5"
    assert standing(1, *program, "--set", "compute.engine=plain", "--output", str(plain)).returncode == 0
    found, expected = read_surface(tmp_path / "reference.h5"), read_surface(plain)
    for name in ("train_loss", "test_loss"):
        assert found.values[name] == pytest.approx(expected.values[name], rel=1e-5)
        assert found.values[name].tobytes() != expected.values[name].tobytes(), "the engine did something"


@pytest.fixture
def finished(tmp_path, capsys, monkeypatch, configured):
    """A small residual network's surface, and a way to run the program on it again in this process."""
    path = configured(RESNET)

    def run(*arguments):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as ended:
            surface.main([path, *arguments])
        out, err = capsys.readouterr()
        return ended.value.code, out, err

    assert run()[0] == 0
    return tmp_path / "reference.h5", run


def test_a_resumed_run_takes_the_engine_and_the_batch_size_from_the_file(finished, contents, monkeypatch):
    path, run = finished
    reference = contents(path)
    with h5py.File(path, "r+") as file:
        file["tiles/status"][3:9] = 0

    def never(*_, **__):
        raise AssertionError("the engine was chosen again")

    monkeypatch.setattr(choosing, "choose_engine", never)
    monkeypatch.setattr(memory, "choose_batch_size", never)
    status, _, err = run()
    assert status == 0, err
    assert contents(path) == reference


def test_a_file_says_with_which_engine_it_was_computed(finished):
    path, _ = finished
    engine = engine_of(str(read_attributes(path)["engine"]))
    assert len(engine.value(FOLDED)) == 9
    assert engine.value(CHANNELS_LAST)


def test_another_engine_is_another_run(finished):
    path, run = finished
    before = path.read_bytes()
    status, _, err = run("--set", "compute.engine=plain")
    assert status == 2
    assert "engine (file: " in err
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("settings", "words", "reason"),
    [
        (
            ["compute.precision=tf32"],
            ["compute.precision", "tf32", "GPU", "float32"],
            "no such units on a CPU",
        ),
        (
            ["compute.batch_size=900000000"],
            ["compute.batch_size is 900000000: ", "valid is --set compute.batch_size="],
            "a batch that no machine holds",
        ),
        (
            ["compute.engine=[floded]"],
            ["compute.engine", "folded", "channels_last"],
            "a step that is not known",
        ),
        (["compute.engine=quick"], ["compute.engine", "auto", "plain"], "an engine that is not known"),
        (
            ["compute.quantities=[loss, loss]"],
            ["compute.quantities", "letters, digits and _", "each once"],
            "a quantity twice",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line_and_leaves_no_file(
    tmp_path, capsys, configured, settings, words, reason
):
    # More examples than a batch may have, so that the batch is what was asked for.
    text = RESNET.replace("limit: 200", "limit: {{train: 1000}}") if "batch_size" in settings[0] else RESNET
    with pytest.raises(SystemExit) as ended:
        surface.main([configured(text), *settings_of(settings), "--output", str(tmp_path / "none.h5")])
    _, err = capsys.readouterr()
    if "batch_size" in settings[0] and ended.value.code == 0:
        pytest.skip("this machine's memory holds it")
    assert ended.value.code == 2, reason
    assert len(err.splitlines()) == 1
    for word in words:
        assert word in err, reason
    assert not (tmp_path / "none.h5").exists()


def test_an_approximate_precision_carries_its_measured_error(tmp_path, capsys, configured):
    path = configured(RESNET)
    low = tmp_path / "low.h5"
    for arguments in ([], ["--set", "compute.precision=bfloat16", "--output", str(low)]):
        with pytest.raises(SystemExit) as ended:
            surface.main([path, *arguments])
        assert ended.value.code == 0, capsys.readouterr().err
    capsys.readouterr()
    exact, found = read_surface(tmp_path / "reference.h5"), read_surface(low)
    error = float(found.attributes["precision_error"])
    assert 0 < error < 0.05
    assert "precision_error" not in exact.attributes
    # Measured at nine points of the whole range; it speaks for the rest by its order of magnitude.
    apart = abs(found.values["train_loss"] / exact.values["train_loss"] - 1)
    assert apart.max() < 10 * error
    with pytest.raises(SystemExit):
        inspect.main([str(low)])
    assert "bfloat16: losses off float32 by" in capsys.readouterr().out


def test_memory_that_runs_out_in_the_run_names_the_setting_and_loses_nothing(
    study, here, computed, monkeypatch
):
    study.edit_module(
        "def loss(model, batch):",
        """
calls = 0

def loss(model, batch):
    global calls
    calls += 1
    if calls > 260 and os.environ.get("SMALL"):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
""",
    )
    monkeypatch.setenv("SMALL", "1")
    failed = here(surface.main, study.configuration)
    assert failed.status == 2
    (error,) = [line for line in failed.err.splitlines() if line.startswith("error: ")]
    assert "out of memory" in error
    assert "compute.batch_size" in error
    done = read_surface(study.output).progress
    assert 0 < done < 1
    monkeypatch.delenv("SMALL")
    computed()
    assert read_surface(study.output).progress == 1


def test_a_network_that_cannot_be_computed_in_bfloat16_is_refused(study, here):
    study.edit_module(
        "return height + inputs",
        "return (height + inputs).numpy() if inputs.dtype == torch.bfloat16 else height + inputs",
    )
    refused = here(surface.main, study.configuration, "--set", "compute.precision=bfloat16")
    assert refused.status == 2
    assert "compute.precision: bfloat16: the network raised" in refused.err
    assert not study.output.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="takes the CPU's way")
def test_a_dropped_step_is_said_in_the_log_and_the_run_goes_on(tmp_path, capsys, monkeypatch, configured):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        surface.main([configured(RESNET), "--set", "compute.engine=[channels_last, fused]"])
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    assert "engine      fused dropped: RuntimeError: oneDNN is not available" in out
    assert "engine      channels-last\n" in out


# Of a loss of 5 or so this rounds away a part in 1e4, another one in batches of another size; in float64 nothing that counts.
ROUNDED = "high = 8000.0 * len(inputs)\n        return (height + inputs + high) - high"


def test_a_network_that_rounds_much_is_computed_with_a_warning_and_one_that_looks_at_its_batch_is_refused(
    study, here
):
    study.edit_module("return height + inputs", ROUNDED)
    done = here(surface.main, study.configuration)
    assert done.status == 0, done.err
    assert "by rounding alone, as float64 shows" in done.out
    assert "by rounding alone" in str(read_attributes(study.output)["warnings"])
    study.edit_module(ROUNDED, "return height + inputs + 0.002 * len(inputs)")
    refused = here(surface.main, study.configuration, "--overwrite")
    assert refused.status == 2
    assert "must not depend" in refused.err


@pytest.mark.parametrize(
    "forward",
    [
        "torch.cat([self.whole(each) for each in inputs.chunk(4)])",
        "torch.cat([self.whole(each) for each in inputs.split(3)])",
        "torch.stack([self.whole(each[None])[0] for each in inputs])",
        "torch.cat([self.whole(each) for each in inputs.tensor_split(2) if len(each)])",
    ],
)
@pytest.mark.parametrize("engine", ["auto", "plain"])
def test_a_network_that_takes_its_batch_in_pieces_is_computed(study, here, contents, forward, engine):
    assert here(surface.main, study.configuration).status == 0
    wanted = read_surface(study.output)
    study.edit_module("def forward(self", "def whole(self")
    pieces = f"def _forward(self, inputs):\n    return {forward}\n\n\nBowl.forward = _forward\n\n\n"
    study.edit_module("class Numbers", f"{pieces}class Numbers")
    done = here(surface.main, study.configuration, "--overwrite", "--set", f"compute.engine={engine}")
    assert done.status == 0, done.err
    found = read_surface(study.output)
    np.testing.assert_allclose(found.values["train_loss"], wanted.values["train_loss"], rtol=1e-6)


def test_a_network_that_takes_some_sizes_of_batches_alone_is_refused_for_that(study, here):
    study.edit_module(
        "return height + inputs", "return height + inputs.reshape(len(inputs) // 2, 2).reshape(-1)"
    )
    refused = here(surface.main, study.configuration)
    assert refused.status == 2
    assert "batches of 2, 4, 6, 8 are taken and of 1, 3, 5 are not" in refused.err
    assert len(refused.err.splitlines()) == 1
