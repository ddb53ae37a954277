import dataclasses
import os

import pytest

from mpi_landscape.configuration.overrides import Override
from mpi_landscape.configuration.reading import from_mapping, load, load_text, to_yaml
from mpi_landscape.configuration.sections.plane import DifferenceDirection, FileDirection, RandomDirection
from mpi_landscape.configuration.sections.sources import ModelConfiguration
from mpi_landscape.configuration.sections.training import Phase, Schedule
from mpi_landscape.errors import LandscapeError
from mpi_landscape.plan.grid import Axis

BASE = "model: {name: resnet20}\ndata: {name: digits}\n"


def refused(text, overrides=()):
    with pytest.raises(LandscapeError) as caught:
        load_text(text, where="mine.yaml", overrides=overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_design_s_example_is_read_in_full():
    configuration = load_text(
        """
        model:      {name: resnet56, checkpoint: runs/resnet56/final.pt}
        data:       {name: cifar10, root: data}
        loss:       cross_entropy
        directions: {alpha: {kind: random, seed: 1, normalize: filter, ignore: [bias, norm]}, beta: {kind: random, seed: 2}}
        grid:       {alpha: [-1, 1, 51], beta: [-0.5, 1.5, 21]}
        compute:    {precision: float32, device: auto, batch_size: auto, data_shards: 4}
        output:     surfaces/resnet56.h5
        """,
        where="x",
    )
    assert configuration.model.checkpoint == "runs/resnet56/final.pt"
    assert configuration.data.root == "data"
    assert configuration.loss.name == "cross_entropy"
    assert configuration.grid.beta == Axis(min=-0.5, max=1.5, num=21)
    assert configuration.compute.data_shards == 4
    assert configuration.output == "surfaces/resnet56.h5"


def test_only_model_and_data_have_to_be_given():
    configuration = load_text(BASE, where="x")
    assert dataclasses.asdict(configuration.directions.alpha) == {
        "kind": "random",
        "seed": 1,
        "normalize": "filter",
        "ignore": ("bias", "norm"),
        "only": "trainable",
        "repeats": None,
        "seeds": None,
    }
    assert configuration.directions.beta is not None
    assert configuration.directions.beta.seed == 2
    assert configuration.grid.alpha == configuration.grid.beta == Axis(min=-1.0, max=1.0, num=51)
    assert configuration.loss.name == "cross_entropy"
    assert configuration.compute.batch_size == "auto"
    assert configuration.training is None


def test_a_direction_that_is_not_random_is_neither_normalised_nor_cut_unless_asked():
    direction = DifferenceDirection(to="b.pt")
    assert (direction.kind, direction.normalize, direction.ignore) == ("difference", "none", ())
    assert not hasattr(direction, "seed")
    assert FileDirection(path="d.h5", normalize="layer").normalize == "layer"


def test_an_empty_list_of_ignored_tensors_ignores_none():
    assert load_text(BASE + "directions: {alpha: {ignore: []}}", where="x").directions.alpha.ignore == ()


@pytest.mark.parametrize(
    ("said", "beta"),
    [
        ("{alpha: {ignore: [], normalize: layer}}", RandomDirection(seed=2, ignore=(), normalize="layer")),
        ("{alpha: {only: all, seed: 7}, beta: {seed: 3}}", RandomDirection(seed=3, only="all")),
        ("{alpha: {ignore: [norm]}, beta: {ignore: [bias]}}", RandomDirection(seed=2, ignore=("bias",))),
        ("{alpha: {ignore: [norm]}, beta: {ignore: null}}", RandomDirection(seed=2, ignore=("norm",))),
        # What is right for a way to another checkpoint is no matter of a random one.
        ("{alpha: {kind: difference, to: a, normalize: filter, ignore: [bias]}}", RandomDirection(seed=2)),
        (
            "{alpha: {kind: difference, to: a, ignore: [bias]}, beta: {kind: difference, to: b}}",
            DifferenceDirection(to="b", ignore=("bias",)),
        ),
        ("{alpha: {ignore: []}, beta: null}", None),
    ],
)
def test_what_moves_is_said_once_for_both_directions_unless_beta_says_otherwise(said, beta):
    text = BASE + f"directions: {said}" + ("\ngrid: {beta: null}" if beta is None else "")
    configuration = load_text(text, where="x")
    assert configuration.directions.beta == beta
    assert load_text(to_yaml(configuration), where="y") == configuration


def test_a_mistake_at_alpha_is_one_mistake():
    with pytest.raises(LandscapeError, match=r"directions\.alpha\.normalize is 'size'; expected") as caught:
        load_text(BASE + "directions: {alpha: {normalize: size}}", where="x")
    assert "more to correct" not in str(caught.value)


def test_a_grid_without_beta_is_a_line_without_a_second_direction():
    configuration = load_text(BASE + "grid: {beta: null}", where="x")
    assert configuration.grid.beta is None
    assert configuration.directions.beta is None


FULL = """
model: {target: "nets:build", arguments: {width: 16, rate: 5e-4, label: "5e-4", deep: {list: [1, [2]]}}}
data: {target: "data:build", splits: [test, train]}
loss: {name: hinge, arguments: {margin: 2}}
directions:
  alpha: {kind: difference, to: far.pt, ignore: ["layer1.*"]}
  beta: {seed: 9223372036854775807, normalize: layer, ignore: []}
  orthogonalize: true
  normalization_buffers: yes
  rules:
    - {tensors: "*.c_attn.weight", kind: weight, axis: 1}
    - {tensors: "experts.*", axis: [0, -1]}
    - {tensors: "temperature", kind: norm, whole: true}
grid: {alpha: {min: -0.1, max: 0.30000000000000004, num: 7}, beta: [0, 0, 1]}
compute: {precision: float64, device: "cuda:1", batch_size: 64, data_shards: 3, threads: 2}
output: "2024-01-31"
training:
  epochs: 6
  output: runs/a
  start: "5e-4"
  seed: 9223372036854775807
  piece_size: 16
  data: streamed
  checkpoint_every: 2
  optimizer: sgd
  batch_size: all
  learning_rate: 1e-5
  momentum: 0.5
  nesterov: true
  weight_decay: 0
  schedule: {milestones: [3, 5], factor: 1e-1}
  augmentation: {shift: 4, flip: true}
  phases:
    - {epochs: 0, schedule: {milestones: []}, augmentation: {}}
    - {batch_size: 16, learning_rate: 0.25, momentum: 0, nesterov: false, weight_decay: 1}
    - {optimizer: sgd}
"""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (BASE, "all defaults"),
        (BASE + "grid: {beta: null}", "a line: the null has to be written"),
        (BASE + "training: {epochs: 3, output: runs/x}", "a constant learning rate, and files in runs/x"),
        (BASE + "training: {epochs: 3, output: runs/x, optimizer: adam}", "no momentum to write"),
        (
            BASE + "training: {output: runs/x, phases: [{epochs: 1}, {epochs: 2}]}",
            "epochs in the phases only",
        ),
        (FULL, "nothing is a default"),
    ],
)
def test_a_configuration_that_is_written_and_read_again_is_equal(text, why):
    configuration = load_text(text, where="x")
    assert load_text(to_yaml(configuration), where="y") == configuration, why


def test_every_default_is_spelled_out_when_written():
    text = to_yaml(load_text(BASE, where="x"))
    for word in ("seed: 1", "seed: 2", "num: 51", "cross_entropy", "float32", "[bias, norm]"):
        assert word in text


def test_a_training_is_written_without_what_its_phases_resolve_to():
    text = to_yaml(load_text(BASE + "training: {output: o, phases: [{epochs: 7}]}", where="x"))
    assert "phases:\n  - {epochs: 7}\n" in text
    assert "momentum" not in text


TRAINED = BASE + "training: {epochs: 3, output: runs/x/}\n"


@pytest.mark.parametrize(
    ("text", "checkpoint", "output", "why"),
    [
        (TRAINED, "runs/x/final.pt", "runs/x/surface.h5", "both follow from the training's folder"),
        (TRAINED + "output: a.h5", "runs/x/final.pt", "a.h5", "the file names its own output"),
        (
            TRAINED.replace("resnet20", "resnet20, checkpoint: runs/x/epoch_0001.pt"),
            "runs/x/epoch_0001.pt",
            "runs/x/surface.h5",
            "a surface around another epoch",
        ),
        (BASE, None, None, "nothing is trained"),
        (BASE + "training: null", None, None, "initial parameters are asked for"),
    ],
)
def test_the_surface_is_around_what_the_same_file_trains(text, checkpoint, output, why):
    configuration = load_text(text, where="x")
    assert configuration.model.checkpoint == checkpoint, why
    assert configuration.output == output, why


def test_an_option_can_take_the_training_back():
    configuration = load_text(TRAINED, where="x", overrides=["training=null"])
    assert (configuration.training, configuration.model.checkpoint) == (None, None)


def plan(text):
    training = load_text(BASE + f"training: {{output: o, {text}}}", where="mine.yaml").training
    return training.plan


def test_a_training_without_phases_is_a_single_phase_of_sgd_as_the_paper_trains():
    assert plan("epochs: 3") == (
        Phase(
            epochs=3,
            optimizer="sgd",
            batch_size=128,
            learning_rate=0.1,
            momentum=0.9,
            nesterov=False,
            weight_decay=5e-4,
        ),
    )


def test_adam_has_defaults_of_its_own():
    (phase,) = plan("epochs: 0, optimizer: adam")
    assert (phase.learning_rate, phase.momentum, phase.nesterov, phase.weight_decay) == (
        1e-3,
        0.0,
        False,
        0.0,
    )
    (phase,) = plan("epochs: 0, optimizer: adam, learning_rate: 0.5, weight_decay: 0.25")
    assert (phase.learning_rate, phase.weight_decay) == (0.5, 0.25)


def test_a_phase_takes_what_it_does_not_say_from_the_training():
    first, second, third = plan(
        "batch_size: all, learning_rate: 0.5, weight_decay: 0, epochs: 9, augmentation: {shift: 4}, "
        "schedule: {milestones: [2]}, phases: [{epochs: 5, batch_size: 16, nesterov: true}, "
        "{optimizer: adam, schedule: {milestones: []}, augmentation: {flip: true}}, {learning_rate: 2, momentum: 0}]"
    )
    assert [each.epochs for each in (first, second, third)] == [5, 9, 9]
    assert [each.batch_size for each in (first, second, third)] == [16, "all", "all"]
    assert [each.learning_rate for each in (first, second, third)] == [0.5, 0.5, 2.0]
    assert [each.momentum for each in (first, second, third)] == [0.9, 0.0, 0.0]
    assert [each.nesterov for each in (first, second, third)] == [True, False, False]
    assert [each.weight_decay for each in (first, second, third)] == [0.0, 0.0, 0.0]
    assert [each.schedule.milestones for each in (first, second, third)] == [(2,), (), (2,)]
    assert [each.augmentation.shift for each in (first, second, third)] == [4, 0, 4]
    assert [each.augmentation.flip for each in (first, second, third)] == [False, True, False]


def test_the_defaults_of_a_phase_are_those_of_its_own_optimizer():
    adam, sgd = plan("epochs: 1, phases: [{optimizer: adam}, {}]")
    assert (adam.learning_rate, adam.momentum, adam.weight_decay) == (1e-3, 0.0, 0.0)
    assert (sgd.learning_rate, sgd.momentum, sgd.weight_decay) == (0.1, 0.9, 5e-4)


def test_the_last_milestone_may_be_the_epoch_before_the_last():
    (phase,) = plan("epochs: 3, schedule: {milestones: [1, 2]}")
    assert phase.schedule == Schedule(milestones=(1, 2), factor=0.1)


TRAINING_REFUSALS = [
    ("batch_size: 2", ["training: epochs is not given"], "no epochs at all"),
    ("phases: [{epochs: 1}, {}]", ["training: phases[1]: epochs is not given"], "none for the second phase"),
    ("epochs: 1, phases: []", ["training: phases is []", "at least one"], "no phase"),
    (
        "epochs: 1, phases: 3",
        ["training.phases is 3", "list of mappings with the fields epochs, optimizer"],
        "a number of phases",
    ),
    (
        "epochs: 1, phases: {epochs: 2}",
        ["training.phases is {'epochs': 2}", "list of mappings"],
        "a phase that is not in a list",
    ),
    (
        "epochs: 1, phases: [3]",
        ["training.phases[0] is 3", "mapping with the fields epochs"],
        "a number for a phase",
    ),
    (
        "epochs: 1, phases: [{}, {epoch: 3}]",
        ["training.phases[1] has unknown field 'epoch'", "'epochs'"],
        "a typo",
    ),
    (
        "epochs: 1, phases: [{output: o}]",
        ["training.phases[0] has unknown field 'output'"],
        "one folder for all",
    ),
    (
        "epochs: 1, phases: [{batch_size: [16, 32]}]",
        ["training.phases[0].batch_size is [16, 32]", "all"],
        "no sweep within a phase",
    ),
    (
        "epochs: 150, schedule: {milestones: [50, 150]}",
        ["training: milestones [150] lie beyond 150 epochs", "from 1 to 149"],
        "a milestone without an epoch after it",
    ),
    (
        "epochs: 0, schedule: {milestones: [1]}",
        ["milestones [1] lie beyond 0 epochs; expected none"],
        "no epochs",
    ),
    (
        "epochs: 20, schedule: {milestones: [10]}, phases: [{}, {epochs: 5}]",
        ["training: phases[1]: milestones [10] lie beyond 5 epochs"],
        "milestones count within a phase",
    ),
    (
        "epochs: 1, optimizer: adam, momentum: 0.5",
        ["training: momentum 0.5 does not belong to optimizer adam"],
        "Adam has no momentum of the gradient to set",
    ),
    (
        "epochs: 1, optimizer: adam, momentum: 0",
        ["training: momentum 0.0 does not belong to optimizer adam"],
        "it would be read by nobody",
    ),
    (
        "epochs: 1, optimizer: adam, nesterov: true",
        ["training: nesterov true does not belong to optimizer adam"],
        "nor Nesterov's",
    ),
    (
        "epochs: 1, momentum: 0.5, phases: [{}, {optimizer: adam}]",
        ["training: phases[1]: momentum 0.5 does not belong to optimizer adam"],
        "the training's momentum is of all phases",
    ),
    (
        "epochs: 1, nesterov: true, phases: [{momentum: 0}]",
        ["training: phases[0]: nesterov is true with momentum 0.0"],
        "a phase without momentum",
    ),
    (
        "epochs: 1, optimizer: rmsprop",
        ["training.optimizer is 'rmsprop'", "sgd or adam"],
        "another optimizer",
    ),
    (
        "epochs: 1, batch_size: full",
        ["training.batch_size is 'full'", "at least 1, or all"],
        "a word that is not all",
    ),
    ("epochs: 1, batch_size: 0", ["training.batch_size is 0", "at least 1, or all"], "no examples"),
    ("epochs: 1, batch_size: auto", ["training.batch_size is 'auto'", "or all"], "it decides the result"),
    ("epochs: 1, piece_size: all", ["training.piece_size is 'all'", "or auto"], "the word of another field"),
    (
        "epochs: 1, data: gpu",
        ["training.data is 'gpu'", "auto, resident or streamed"],
        "a device for a place",
    ),
    ("epochs: 1, checkpoint_every: 0", ["training.checkpoint_every is 0", "from 1"], "never"),
    ("epochs: 1, start: 3", ["training.start is 3", "text"], "a number for a file"),
    ("epochs: 1, seed: -1", ["training.seed is -1", "at least 0"], "a negative seed"),
    ("epochs: 1, weight_decay: -1", ["training.weight_decay is -1", "at least 0"], "weights that would grow"),
    (
        "epochs: 1, augmentation: {shift: -1}",
        ["training.augmentation.shift is -1", "from 0"],
        "a negative shift",
    ),
    (
        "epochs: 1, augmentation: {flip: 1}",
        ["training.augmentation.flip is 1", "true or false"],
        "1 for true",
    ),
    ("epochs: 1, augmentation: true", ["training.augmentation is true", "shift, flip"], "no word of what"),
    (
        "epochs: 1, schedule: {milestones: [1], factor: 0}",
        ["training.schedule.factor is 0", "above 0"],
        "nothing is learnt afterwards",
    ),
]


@pytest.mark.parametrize(("text", "words", "why"), TRAINING_REFUSALS)
def test_a_training_that_cannot_be_is_refused(text, words, why):
    message = refused(BASE + f"training: {{output: o, {text}}}")
    assert message.startswith("mine.yaml: "), why
    for word in words:
        assert word in message, why


@pytest.mark.parametrize(
    ("line", "words", "why"),
    [
        (
            "base: other.yaml",
            ["mine.yaml: base is 'other.yaml'; only a file can have one"],
            "no folder is known",
        ),
        ("bas: other.yaml", ["unknown field 'bas'", "did you mean 'base'"], "a typo"),
        ("sweeps: {}", ["unknown field 'sweeps'", "did you mean 'sweep'"], "another typo"),
    ],
)
def test_what_is_dealt_with_before_the_sections_is_known_too(line, words, why):
    message = refused(BASE + line)
    for word in words:
        assert word in message, why


REFUSALS = [
    (
        "grid: {alpha: {nmu: 3}}",
        ["grid.alpha has unknown field 'nmu'; valid fields are min, max, num", "'num'"],
        "typo",
    ),
    ("lss: mse", ["unknown field 'lss'", "model, data, loss", "did you mean 'loss'"], "typo at the top"),
    ("3: x", ["unknown field '3'"], "a field that is not text"),
    ("compute: {device: tpu}", ["compute.device is 'tpu'", "cuda:N"], "a device that is not known"),
    ("compute: {batch_size: 0}", ["compute.batch_size is 0", "at least 1"], "no examples"),
    ("compute: {batch_size: many}", ["'many'", "auto"], "a word that is not auto"),
    ("compute: {threads: 1.5}", ["compute.threads is 1.5", "whole number"], "a broken number"),
    ("compute: {threads: true}", ["compute.threads is true", "whole number"], "True is 1 to Python"),
    (
        "compute: {precision: float16}",
        ["'float16'", "float32, tf32, bfloat16, float64 or kept"],
        "another precision",
    ),
    (
        "compute: {quantities: [loss, loss]}",
        ["compute.quantities is ['loss', 'loss']", "each once"],
        "twice the same",
    ),
    ("compute: {quantities: [a-b]}", ["compute.quantities is ['a-b']", "letters, digits and _"], "a sign"),
    ("compute: {quantities: ['']}", ["compute.quantities is ['']", "such as [loss]"], "no name"),
    ("compute: {quantities: loss}", ["compute.quantities is 'loss'", "list of names"], "not a list"),
    ("compute: {quantities: [1]}", ["compute.quantities is [1]", "list of names"], "a number"),
    ("output: 3", ["output is 3", "text"], "a number for a file"),
    ("output: ''", ["output is ''", "text"], "no name for a file"),
    ("grid: 5", ["grid is 5", "mapping", "alpha, beta"], "a number for a section"),
    ("grid: {alpha: null}", ["grid.alpha is null", "min, max, num"], "no first axis"),
    ("grid: {alpha: [1, 2]}", ["grid.alpha is [1, 2]", "[min, max, num]"], "too few numbers"),
    ("grid: {alpha: -1:1:51}", ["grid.alpha is '-1:1:51'", "[min, max, num]"], "the form of the option"),
    ("grid: {alpha: [0, 1, 0]}", ["grid.alpha.num is 0", "from 1"], "no points"),
    ("grid: {alpha: [0, 1, 3.0]}", ["grid.alpha.num is 3.0", "whole"], "a float for a number of points"),
    (
        "grid: {alpha: [0, 1, 1000000000000]}",
        ["grid.alpha.num", "from 1 to"],
        "more points than any machine holds",
    ),
    ("grid: {alpha: [1, -1, 5]}", ["grid.alpha: min 1.0", "max -1.0"], "min above max"),
    ("grid: {beta: [1, 1, 5]}", ["grid.beta: min and max are both 1.0"], "five times the same point"),
    ("grid: {alpha: [.nan, 1, 5]}", ["grid.alpha.min is nan", "finite"], "not a number"),
    ("grid: {alpha: [0, .inf, 5]}", ["grid.alpha.max is inf", "finite"], "infinite"),
    ("grid: {alpha: [0, 1" + "0" * 400 + ", 5]}", ["grid.alpha.max", "finite"], "beyond floating point"),
    ("grid: {alpha: [a, 1, 5]}", ["grid.alpha.min is 'a'", "number"], "text for a number"),
    ("loss: 3", ["loss is 3", "name, target, arguments", "or a name"], "a number for a loss"),
    ("loss: {}", ["loss: neither name nor target"], "no loss at all"),
    ("loss: {name: mse, target: a:b}", ["loss: both name 'mse' and target 'a:b'"], "two losses"),
    ("loss: {name: mse, arguments: [1]}", ["loss.arguments is [1]", "mapping"], "arguments without names"),
    (
        "loss: {name: mse, arguments: {1: 2}}",
        ["loss.arguments", "mapping of argument names"],
        "a number for a name",
    ),
    (
        "directions: {alpha: {kind: randm}}",
        ["directions.alpha.kind is 'randm'", "random, difference"],
        "a typo",
    ),
    (
        "directions: {alpha: {ignore: bias}}",
        ["directions.alpha.ignore is 'bias'", "list"],
        "one name, not a list",
    ),
    ("directions: {alpha: {seed: -1}}", ["directions.alpha.seed is -1", "at least 0"], "a negative seed"),
    (
        "directions: {alpha: {kind: difference}}",
        ["directions.alpha: kind difference needs", "to"],
        "no far end",
    ),
    ("directions: {beta: {kind: file}}", ["directions.beta: kind file needs", "path"], "no file"),
    (
        "directions: {alpha: {kind: difference, to: a, seed: 3}}",
        ["directions.alpha: seed", "difference"],
        "no seed",
    ),
    ("directions: {alpha: {to: a}}", ["directions.alpha: to", "random"], "a far end of a random direction"),
    (
        "directions: {alpha: {kind: file, pth: a}}",
        [
            "directions.alpha has unknown field 'pth'; valid fields are kind, seed, normalize, ignore, only, "
            "repeats, seeds, to, key, part, path"
        ],
        "a typo in a field of one kind",
    ),
    (
        "directions: {rules: [{tensors: a}]}",
        ["directions.rules[0]: kind, axis and whole are not given"],
        "a rule that says nothing",
    ),
    (
        "directions: {rules: [{tensors: a, axis: 1, whole: true}]}",
        ["directions.rules[0]: axis is 1 and whole is true"],
        "an axis of one filter",
    ),
    (
        "directions: {rules: [{tensors: a, groups: 2}]}",
        ["directions.rules[0]: groups is 2 and axis is None"],
        "groups of no axis",
    ),
    ("directions: {rules: [{axis: 1}]}", ["rules[0] has no field 'tensors'"], "a rule for nothing"),
    (
        "directions: {rules: [{tensors: a, kind: buffer}]}",
        ["directions.rules[0].kind is 'buffer'", "weight, bias, norm or scalar"],
        "no parameter is a running statistic",
    ),
    (
        "directions: {normalization_buffers: perhaps}",
        ["normalization_buffers is 'perhaps'", "auto, true or false"],
        "neither yes nor no",
    ),
    ("directions: {alpha: {only: some}}", ["directions.alpha.only is 'some'", "trainable or all"], "some"),
    ("directions: {beta: null}", ["directions.beta is null", "grid.beta"], "a surface of one direction"),
    ("training: {epochs: 3}", ["training has no field 'output'"], "no folder"),
    ("training: {epochs: -1, output: o}", ["training.epochs is -1"], "negative epochs"),
    (
        "training: {epochs: 1, output: o, learning_rate: 0}",
        ["training.learning_rate is 0", "above 0"],
        "no step",
    ),
    ("training: {epochs: 1, output: o, momentum: 1}", ["training.momentum is 1", "below 1"], "diverges"),
    (
        "training: {epochs: 1, output: o, momentum: 0, nesterov: true}",
        ["training: nesterov"],
        "SGD refuses it",
    ),
    (
        "training: {epochs: 1, output: o, schedule: {milestones: [5, 3]}}",
        ["schedule: milestones are 5, 3"],
        "back",
    ),
    (
        "training: {epochs: 1, output: o, schedule: {milestones: [a]}}",
        ["milestones is ['a']", "epochs"],
        "text",
    ),
    (
        "training: {epochs: 1, output: o, schedule: {factor: 0.5}}",
        ["training.schedule has no field 'milestones'"],
        "no",
    ),
]


@pytest.mark.parametrize(("line", "words", "why"), REFUSALS)
def test_what_is_not_valid_is_refused_with_path_value_and_what_is(line, words, why):
    message = refused(BASE + line)
    assert message.startswith("mine.yaml: "), why
    for word in words:
        assert word in message, why


@pytest.mark.parametrize(
    ("text", "words", "why"),
    [
        ("data: digits", ["the configuration has no field 'model'"], "no model"),
        ("model: {arguments: {}}\ndata: digits", ["model: neither name nor target"], "neither"),
        ("model: {name: a, target: b:c}\ndata: digits", ["model: both name 'a' and target 'b:c'"], "both"),
        (
            "model: linear\ndata: {target: a:b, root: x}",
            ["data: root", "arguments"],
            "a root that nobody would read",
        ),
        ("model: linear\ndata: {name: digits, splits: []}", ["data: splits is []"], "no split"),
        (
            "model: linear\ndata: {name: digits, splits: [a, a]}",
            ["data: splits is ['a', 'a']"],
            "the same split twice",
        ),
        (
            "model: linear\ndata: {name: digits, splits: train}",
            ["data.splits is 'train'", "list"],
            "not a list",
        ),
        ("", ["is empty", "model, data"], "nothing"),
        ("# nothing", ["is empty"], "a comment"),
        ("[1, 2]", ["is [1, 2]", "mapping"], "a list"),
        ("resnet20", ["is 'resnet20'", "mapping"], "a word"),
    ],
)
def test_a_configuration_without_its_parts_is_refused(text, words, why):
    message = refused(text)
    for word in words:
        assert word in message, why


def test_the_misspelt_field_is_named_before_the_one_that_is_missing_for_it():
    message = refused("modle: resnet20\ndata: digits")
    assert "unknown field 'modle'" in message
    assert "did you mean 'model'" in message
    assert "1 more" in message


@pytest.mark.parametrize(
    ("line", "overrides", "path", "value", "why"),
    [
        ("", ["grid.alpha.num=7"], "grid.alpha.num", 7, "a field of a default"),
        ("grid: {alpha: [0, 3, 5]}", ["grid.alpha.num=7"], "grid.alpha.max", 3.0, "into a list of three"),
        (
            "grid: {alpha: [0, 3, 5]}",
            ["grid.alpha=[0, 2, 9]", "grid.alpha.num=4"],
            "grid.alpha.max",
            2.0,
            "in order",
        ),
        ("", ["grid.alpha.num=7", "grid.alpha.num=8"], "grid.alpha.num", 8, "the last wins"),
        ("loss: mse", ["loss.name=hinge"], "loss.name", "hinge", "into a name"),
        ("", ["loss=mse"], "loss.name", "mse", "a name for a section"),
        ("grid: {beta: null}", ["grid.beta.num=3"], "grid.beta.num", 3, "a line that becomes a surface"),
        ("", ["grid.beta=null"], "grid.beta", None, "a surface that becomes a line"),
        ("", ["grid.beta="], "grid.beta", None, "nothing is null"),
        ("", ["output=a=b.h5"], "output", "a=b.h5", "the first = divides"),
        ("", ["model.arguments.width=5e-1"], "model.arguments", {"width": 0.5}, "an argument, as YAML"),
    ],
)
def test_an_option_changes_what_it_names(line, overrides, path, value, why):
    found = load_text(BASE + line, where="x", overrides=overrides)
    for step in path.split("."):
        found = getattr(found, step)
    assert found == value, why


@pytest.mark.parametrize(
    ("line", "overrides", "words", "why"),
    [
        ("", ["grid.alpha.num=0"], ["--set grid.alpha.num=0: grid.alpha.num is 0"], "the option is at fault"),
        ("grid: {alpha: [0, 1, 0]}", ["output=x"], ["mine.yaml: grid.alpha.num"], "the file is at fault"),
        (
            "grid: {alpha: [0, 1, 3]}",
            ["grid.alpha.min=4"],
            ["mine.yaml with --set grid.alpha.min=4"],
            "both together",
        ),
        ("", ["grid.alpha.nmu=3"], ["--set grid.alpha.nmu=3: grid.alpha has unknown field 'nmu'"], "a typo"),
        ("", ["grid.alpha"], ["--set grid.alpha: expected dotted.key=value"], "no ="),
        ("", ["=3"], ["--set =3: expected dotted.key=value"], "no key"),
        ("", ["grid..num=3"], ["expected dotted.key=value"], "an empty step"),
        ("", ["grid.alpha=[1"], ["--set grid.alpha: line 1"], "a value that is not YAML"),
        ("output: a", ["output.file=b"], ["--set output.file=b: output is 'a'", "no fields"], "into a text"),
    ],
)
def test_an_option_that_is_not_valid_is_named(line, overrides, words, why):
    message = refused(BASE + line, overrides)
    for word in words:
        assert word in message, why


def test_an_option_that_names_a_base_is_refused():
    message = refused(BASE, ["base=other.yaml"])
    assert message.startswith("--set base=other.yaml: base can be said in a file only")


def test_an_option_changes_one_of_two_sections_that_an_alias_makes_the_same():
    text = BASE + "directions: {alpha: &same {seed: 3}, beta: *same}"
    directions = load_text(text, where="x", overrides=["directions.beta.seed=4"]).directions
    assert (directions.alpha.seed, directions.beta.seed) == (3, 4)


def test_an_option_can_be_a_value_and_says_what_was_given():
    options = [
        "grid.alpha.num=3",
        Override(said="--alpha=0:1:4", key="grid.alpha", value=Axis(0, 1, 4)),
        Override(said="--line", key="grid.beta", value=None),
    ]
    grid = load_text(BASE, where="x", overrides=options).grid
    assert (grid.alpha, grid.beta) == (Axis(0, 1, 4), None)
    wrong = [Override(said="--output=\a", key="output", value="\a")]
    assert refused(BASE, wrong).startswith("--output=\\x07: output is '\\x07'; expected text")


def test_options_leave_the_mapping_of_the_caller_alone():
    values = {"model": "linear", "data": "digits", "grid": {"alpha": [0, 1, 5]}}
    configuration = from_mapping(values, where="x", overrides=["grid.alpha.num=2", "grid.beta=null"])
    assert configuration.grid.alpha.num == 2
    assert values == {"model": "linear", "data": "digits", "grid": {"alpha": [0, 1, 5]}}


@pytest.mark.parametrize(
    ("content", "words", "why"),
    [
        (None, ["no such file"], "absent"),
        (b"", ["is empty"], "empty"),
        (b"model: \xff\xfe", ["UTF-8", "0xff", "offset 7"], "another encoding"),
        (b"#" * (2**20 + 1), ["bytes", "at most"], "a data file by mistake"),
        (b"\x89HDF\r\n\x1a\n", ["UTF-8"], "a surface by mistake"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_on_one_line(tmp_path, content, words, why):
    path = tmp_path / "mine.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LandscapeError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: "), why
    assert "\n" not in message, why
    for word in words:
        assert word in message, why


def test_a_folder_and_a_pipe_are_no_configuration(tmp_path):
    with pytest.raises(LandscapeError, match="is a folder"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(LandscapeError, match="not a regular file"):
        load(tmp_path / "pipe")


def test_a_byte_order_mark_is_skipped(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    assert load(path).model.name == "resnet20"


@pytest.mark.parametrize(
    ("line", "quantities", "why"),
    [
        ("", ("loss",), "the default"),
        ("compute: {quantities: [loss, gradient_norm]}", ("loss", "gradient_norm"), "one more"),
        ("compute: {quantities: [gradient_norm, loss]}", ("gradient_norm", "loss"), "in this order"),
        ("compute: {quantities: [top5]}", ("loss", "top5"), "the loss goes without saying"),
        ("compute: {quantities: []}", ("loss",), "likewise"),
    ],
)
def test_the_loss_is_among_the_quantities_whether_named_or_not(line, quantities, why):
    configuration = load_text(BASE + line, where="x")
    assert configuration.compute.quantities == quantities, why
    assert load_text(to_yaml(configuration), where="y") == configuration, why


def test_an_option_says_which_quantities():
    options = ["compute.quantities=[loss,gradient_norm]"]
    assert load_text(BASE, where="x", overrides=options).compute.quantities == ("loss", "gradient_norm")


def test_a_null_takes_back_what_a_direction_says():
    text = BASE + "directions: {alpha: {kind: difference, to: a, seed: null, normalize: null}}"
    assert load_text(text, where="x").directions.alpha == DifferenceDirection(to="a")
    text = BASE + "directions: {alpha: {kind: random, seed: null, to: null}, beta: {seed: null}}"
    directions = load_text(text, where="x").directions
    assert (directions.alpha, directions.beta) == (RandomDirection(seed=1), RandomDirection(seed=2))


def test_a_section_that_python_builds_is_held_to_the_same_rules():
    with pytest.raises(LandscapeError, match="neither name nor target"):
        ModelConfiguration()
    with pytest.raises(LandscapeError, match="above max"):
        Axis(min=2.0, max=1.0, num=3)
