import itertools

import pytest

from mpi_landscape.configuration.reading import (
    from_mapping,
    load,
    load_all,
    load_members,
    load_text,
    to_yaml,
)
from mpi_landscape.errors import LandscapeError

BASE = "model: {name: resnet20}\ndata: {name: digits}\n"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write files by name into the working folder."""
    monkeypatch.chdir(tmp_path)

    def write(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").write_text(text)

    return write


def trained(text, more=""):
    return BASE + f"training: {{output: runs/x, epochs: 3{', ' if text else ''}{text}}}\n{more}"


def names(members):
    return [member.training.output.removeprefix("runs/x/") for member in members]


def refused(overrides=(), read=load_members, path="mine.yaml"):
    with pytest.raises(LandscapeError) as caught:
        read(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_file_without_a_list_has_one_member_which_is_the_file(write):
    write(mine=trained("batch_size: 7"))
    (member,) = load_members("mine.yaml")
    assert member == load("mine.yaml")
    assert member.training.output == "runs/x"


def test_a_file_without_a_training_has_one_member_too(write):
    write(mine=BASE)
    assert load_members("mine.yaml") == (load("mine.yaml"),)


def test_the_members_are_the_product_in_the_order_given_and_the_last_varies_fastest(write):
    write(
        mine=trained(
            "weight_decay: [0, 5e-4], batch_size: [8192, 128, all]",
            "sweep: {model.name: [resnet20, resnet20_noshort]}",
        )
    )
    members = load_members("mine.yaml")
    found = [(each.training.weight_decay, each.training.batch_size, each.model.name) for each in members]
    assert found == [
        (decay, size, name)
        for decay in (0.0, 5e-4)
        for size in (8192, 128, "all")
        for name in ("resnet20", "resnet20_noshort")
    ]
    assert names(members)[0] == "weight_decay=0,batch_size=8192,name=resnet20"
    assert names(members)[-1] == "weight_decay=0.0005,batch_size=all,name=resnet20_noshort"


def test_a_section_before_the_training_varies_slower(write):
    write(
        mine="sweep: {data.name: [digits, mnist]}\n"
        + trained("seed: [0, 1]").replace("data: {name: digits}", "data: {}")
    )
    assert names(load_members("mine.yaml")) == [
        "name=digits,seed=0",
        "name=digits,seed=1",
        "name=mnist,seed=0",
        "name=mnist,seed=1",
    ]


# Every single value of the section, twice, and where it is found.
FIELDS = [
    ("start: [a.pt, b.pt]", "start", ["a.pt", "b.pt"]),
    ("seed: [1, 2]", "seed", [1, 2]),
    ("piece_size: [auto, 4]", "piece_size", ["auto", 4]),
    ("data: [resident, streamed]", "data", ["resident", "streamed"]),
    ("checkpoint_every: [1, 3]", "checkpoint_every", [1, 3]),
    ("epochs: [0, 3]", "epochs", [0, 3]),
    ("optimizer: [sgd, adam]", "optimizer", ["sgd", "adam"]),
    ("batch_size: [128, all]", "batch_size", [128, "all"]),
    ("learning_rate: [0.1, 1e-5]", "learning_rate", [0.1, 1e-5]),
    ("momentum: [0, 0.9]", "momentum", [0.0, 0.9]),
    ("nesterov: [false, true]", "nesterov", [False, True]),
    ("weight_decay: [null, 1]", "weight_decay", [None, 1.0]),
    ("schedule: {milestones: [1, 2], factor: [0.5, 1]}", "schedule.factor", [0.5, 1.0]),
    ("augmentation: {shift: [0, 4]}", "augmentation.shift", [0, 4]),
    ("augmentation: {flip: [false, true]}", "augmentation.flip", [False, True]),
]


@pytest.mark.parametrize(("text", "path", "values"), FIELDS, ids=[row[1] for row in FIELDS])
def test_every_single_value_of_a_training_can_be_a_list(write, text, path, values):
    write(mine=BASE + f"training: {{output: o, {text}{'' if 'epochs' in text else ', epochs: 3'}}}")
    found = [member.training for member in load_members("mine.yaml")]
    for step in path.split("."):
        found = [getattr(each, step) for each in found]
    assert found == values


# What is swept over, the folders, and why.
FOLDERS = [
    ("batch_size: [128]", "", ["batch_size=128"], "one value is a sweep too: another may be added later"),
    (
        "learning_rate: [1e-5, 0.5, 1]",
        "",
        [f"learning_rate={each}" for each in ("1e-05", "0.5", "1")],
        "numbers",
    ),
    ("nesterov: [true, false]", "", ["nesterov=true", "nesterov=false"], "truth values as YAML writes them"),
    (
        "start: [null, runs/a b/final.pt]",
        "",
        ["start=null", "start=runs_a_b_final.pt"],
        "no separators, no spaces",
    ),
    (
        "schedule: {milestones: [1], factor: [0.5, 0.25]}",
        "",
        ["factor=0.5", "factor=0.25"],
        "the last step only",
    ),
    (
        "",
        "sweep: {model.arguments.hidden: [[12], [24, -6]]}",
        ["hidden=12", "hidden=24_-6"],
        "lists of values",
    ),
    (
        "",
        "sweep: {model.arguments.label: ['a=b,c', 'a:b']}",
        ["label=a_b_c", "label=a_b"],
        "no marks of ours",
    ),
    (
        "",
        "sweep: {model.arguments.label: [größe, '..']}",
        ["label=größe", "label=.."],
        "letters of any language",
    ),
    ("", "sweep: {model: [resnet20, vgg9]}", ["model=resnet20", "model=vgg9"], "a name stands for a section"),
    (
        "",
        "sweep: {training.schedule.milestones: [[1], [1, 2]]}",
        ["milestones=1", "milestones=1_2"],
        "said outright",
    ),
    (
        "",
        "sweep: {model: {arguments: {a: [1, 2]}, name: [b]}}",
        ["a=1,name=b", "a=2,name=b"],
        "nested instead of dotted",
    ),
]


@pytest.mark.parametrize(("text", "more", "folders", "why"), FOLDERS)
def test_a_member_has_a_folder_that_says_what_is_its_own(write, text, more, folders, why):
    write(mine=trained(text, more))
    members = load_members("mine.yaml")
    assert names(members) == folders, why
    assert [member.output for member in members] == [f"runs/x/{each}/surface.h5" for each in folders], why
    assert [member.model.checkpoint for member in members] == [
        f"runs/x/{each}/final.pt" for each in folders
    ], why


def test_a_member_that_is_written_is_a_configuration_of_its_own(write):
    write(mine=trained("batch_size: [1, 2]", "sweep: {loss.name: [mse, hinge]}"))
    for member in load_members("mine.yaml"):
        assert load_text(to_yaml(member), where="x") == member


def test_a_swept_name_takes_the_place_of_a_target_and_leaves_the_arguments(write):
    write(mine=trained("", "loss: {target: 'a:b', arguments: {margin: 2}}\nsweep: {loss: [mse, hinge]}"))
    first, second = (member.loss for member in load_members("mine.yaml"))
    assert (first.name, first.target, first.arguments) == ("mse", None, {"margin": 2})
    assert (second.name, second.target, second.arguments) == ("hinge", None, {"margin": 2})


def test_a_sweep_reaches_into_sections_that_the_file_does_not_say(write):
    write(mine=trained("", "sweep: {grid.alpha.num: [3, 5]}"))
    assert [member.grid.alpha.num for member in load_members("mine.yaml")] == [3, 5]


def test_the_defaults_follow_the_optimizer_of_each_member(write):
    write(mine=trained("optimizer: [sgd, adam]"))
    plans = [member.training.plan[0] for member in load_members("mine.yaml")]
    assert [(each.learning_rate, each.weight_decay) for each in plans] == [(0.1, 5e-4), (1e-3, 0.0)]


def test_phases_are_those_of_every_member(write):
    write(mine=trained("learning_rate: [0.5, 0.25], phases: [{}, {epochs: 1, learning_rate: 2}]"))
    rates = [[phase.learning_rate for phase in member.training.plan] for member in load_members("mine.yaml")]
    assert rates == [[0.5, 2.0], [0.25, 2.0]]


# What the file says, the options, the folders, and why.
OPTIONS = [
    ("", "", ["training.batch_size=[8, 4]"], ["batch_size=8", "batch_size=4"], "an option brings a sweep"),
    ("", "", ["sweep.model.name=[a, b]"], ["name=a", "name=b"], "of any field"),
    ("batch_size: [1, 2]", "", ["training.batch_size=4"], [""], "a value in place of a list"),
    ("batch_size: [1, 2]", "", ["training.batch_size=[4]"], ["batch_size=4"], "another list"),
    ("", "sweep: {model.name: [a, b]}", ["model.name=c"], [""], "a value in place of a sweep"),
    ("", "sweep: {model.name: [a, b]}", ["model=c"], [""], "a section around it"),
    (
        "",
        "sweep: {model.name: [a, b], training.seed: [1]}",
        ["model.name=c"],
        ["seed=1"],
        "and no other sweep",
    ),
    (
        "",
        "sweep: {model.arguments.width: [1]}",
        ["model.arguments.w=2"],
        ["width=1"],
        "a field that begins alike",
    ),
    (
        "",
        "sweep: {model: [a, b]}",
        ["model.arguments.c=3"],
        ["model=a", "model=b"],
        "a field within what is swept over",
    ),
    ("", "sweep: {model.name: [a, b]}", ["sweep.model.name=[c]"], ["name=c"], "another list of a sweep"),
    ("", "sweep: {model.name: [a, b]}", ["sweep=null"], [""], "no sweep at all"),
    ("", "", ["model.name=c", "sweep.model.name=[d]"], ["name=d"], "the last counts"),
    ("", "", ["sweep.model.name=[d]", "model.name=c"], [""], "the last counts"),
]


@pytest.mark.parametrize(("text", "more", "overrides", "folders", "why"), OPTIONS)
def test_an_option_changes_what_is_swept_over(write, text, more, overrides, folders, why):
    write(mine=trained(text, more))
    members = load_members("mine.yaml", overrides)
    assert [member.training.output for member in members] == [
        f"runs/x/{each}".rstrip("/") for each in folders
    ], why


def test_an_option_within_a_swept_section_holds_for_every_member(write):
    write(mine=trained("", "sweep: {model: [a, b]}"))
    members = load_members("mine.yaml", ["model.arguments.width=3"])
    assert [(each.model.name, each.model.arguments) for each in members] == [
        ("a", {"width": 3}),
        ("b", {"width": 3}),
    ]


def test_a_base_may_have_a_sweep_that_the_file_changes_or_takes_back(write):
    write(
        base=trained("batch_size: [1, 2]", "sweep: {model.name: [a, b], training.seed: [1, 2]}"),
        mine="base: base.yaml\ntraining: {batch_size: 4}\nsweep: {model.name: null, training.seed: [3, 4]}",
    )
    assert names(load_members("mine.yaml")) == ["seed=3", "seed=4"]


# What the file says, what is refused, and why.
REFUSALS = [
    (trained("batch_size: []"), ["mine.yaml: training.batch_size is []", "at least one"], "no value"),
    (
        trained("", "sweep: {model.name: []}"),
        ["mine.yaml: sweep.model.name is []", "at least one"],
        "no value",
    ),
    (trained("batch_size: [4, 8, 4]"), ["training.batch_size has 4 twice", "once"], "a value twice"),
    (trained("weight_decay: [0, 0.0]"), ["training.weight_decay has 0.0 twice"], "the same number twice"),
    (trained("", "sweep: {loss.name: [a, a]}"), ["sweep.loss.name has 'a' twice"], "a text twice"),
    (trained("", "sweep: {model.arguments.a: [[1, 2], [1, 2]]}"), ["[1, 2] twice"], "a list twice"),
    (
        trained("batch_size: [4, {a: 1}]"),
        ["training.batch_size[1] is {'a': 1}", "expected text"],
        "a mapping",
    ),
    (
        trained("", "sweep: {model.arguments.a: [[[1]]]}"),
        ["sweep.model.arguments.a[0] is [[1]]"],
        "a deeper list",
    ),
    (trained("", "sweep: {model.name: a}"), ["sweep.model.name is 'a'; expected a list"], "no list"),
    (trained("", "sweep: [1]"), ["sweep is [1]; expected a mapping"], "no fields"),
    (
        trained("", "sweep: {3: [1]}"),
        ["sweep has the key 3; expected a dotted field"],
        "a number for a field",
    ),
    (trained("", "sweep: {model..name: [1]}"), ["sweep has the key 'model..name'"], "an empty step"),
    (
        trained("", "sweep: {model.nmae: [a]}"),
        ["member nmae=a: model has unknown field 'nmae'", "'name'"],
        "a typo",
    ),
    (trained("", "sweep: {modle.name: [a]}"), ["unknown field 'modle'", "'model'"], "a typo at the top"),
    (
        trained("batchsize: [1, 2]"),
        ["mine.yaml: training has unknown field 'batchsize'"],
        "a typo in the training",
    ),
    (
        trained("schedule: {milestones: [2], factr: [1, 2]}"),
        ["training.schedule has unknown field 'factr'"],
        "deeper",
    ),
    (
        trained("batch_size: [4, 0]"),
        ["mine.yaml, member batch_size=0: training.batch_size is 0"],
        "one bad value",
    ),
    (
        trained("nesterov: [true], momentum: [0.5, 0]"),
        ["mine.yaml, member nesterov=true,momentum=0: training: nesterov is true with momentum 0.0"],
        "values that do not fit together",
    ),
    (
        trained("schedule: {milestones: [[1], [2]]}"),
        ["training.schedule.milestones is [[1], [2]]", "list of epochs"],
        "milestones are a list already",
    ),
    (
        trained("phases: [[{epochs: 1}], [{epochs: 2}]]"),
        ["training.phases[0] is [{'epochs': 1}]"],
        "so are phases",
    ),
    (
        trained("phases: [{epochs: [1, 2]}]"),
        ["training.phases[0].epochs is [1, 2]"],
        "no sweep within a phase",
    ),
    (
        trained("", "model: {name: [a, b]}").replace(BASE, "data: digits\n"),
        ["model.name is ['a', 'b']"],
        "not training",
    ),
    (
        BASE + "training: {output: [a, b], epochs: 1}",
        ["mine.yaml: training.output is ['a', 'b']; expected text"],
        "the folder is of all members",
    ),
    (trained("", "sweep: {training.output: [a, b]}"), ["training.output cannot be swept over"], "likewise"),
    (trained("", "sweep: {output: [a, b]}"), ["output cannot be swept over"], "each has its own"),
    (
        trained("", "sweep: {model.checkpoint: [a, b]}"),
        ["model.checkpoint cannot be swept over"],
        "each has its own",
    ),
    (trained("", "sweep: {training: [null]}"), ["training cannot be swept over"], "no training at all"),
    (trained("", "sweep: {base: [a, b]}"), ["base cannot be swept over"], "done before"),
    (trained("", "sweep: {sweep.a: [1]}"), ["sweep.a cannot be swept over"], "a sweep of sweeps"),
    (
        trained("batch_size: [1, 2]", "output: a.h5"),
        [
            "mine.yaml: output is 'a.h5', one file for all members of the sweep over training.batch_size",
            "leave it out",
        ],
        "one surface for all",
    ),
    (
        trained("batch_size: [1, 2]").replace("resnet20", "resnet20, checkpoint: a.pt"),
        ["mine.yaml: model.checkpoint is 'a.pt', one file for all"],
        "one center for all",
    ),
    (BASE + "sweep: {loss.name: [a, b]}", ["sweep over loss.name and no section training"], "no folder"),
    (BASE + "training: 3\nsweep: {loss.name: [a, b]}", ["training is 3; expected a mapping"], "no section"),
    (BASE + "training: {seed: [1, 2], epochs: 1}", ["training has no field 'output'"], "no folder"),
    (
        trained("batch_size: [1, 2]", "sweep: {training.batch_size: [3]}"),
        ["both training.batch_size and sweep.training.batch_size are swept over"],
        "one field by two sweeps",
    ),
    (
        trained("", "sweep: {model.arguments.a: [1], model: [b]}"),
        ["both sweep.model and sweep.model.arguments.a are swept over"],
        "a field and what is around it",
    ),
    (trained("start: [a/b, a b]"), ["two members have the folder 'start=a_b'"], "the same after shortening"),
    (
        trained("", "sweep: {model.arguments.a: [1, '1']}"),
        ["two members have the folder 'a=1'"],
        "number and text",
    ),
    (trained(f"start: [{'a' * 200}]"), ["start=aaa", "more than 200 bytes"], "longer than file systems take"),
    (
        trained(f"seed: {list(range(101))}, checkpoint_every: {list(range(1, 101))}"),
        ["sweep over training.seed, training.checkpoint_every has 10100 members", "at most 10000"],
        "more than anybody trains",
    ),
]


@pytest.mark.parametrize(("text", "words", "why"), REFUSALS)
def test_a_sweep_that_cannot_be_is_refused_on_one_line(write, text, words, why):
    write(mine=text)
    message = refused()
    assert message.startswith("mine.yaml"), why
    for word in words:
        assert word in message, why


def test_true_and_1_are_two_values(write):
    write(mine=trained("", "sweep: {model.arguments.a: [true, 1, false, 0]}"))
    found = [member.model.arguments["a"] for member in load_members("mine.yaml")]
    assert [(type(each), each) for each in found] == [(bool, True), (int, 1), (bool, False), (int, 0)]


def test_ten_thousand_members_are_not_too_many(write):
    write(mine=trained(f"seed: {list(range(100))}, checkpoint_every: {list(range(1, 101))}"))
    members = load_members("mine.yaml")
    found = [(each.training.seed, each.training.checkpoint_every) for each in members]
    assert found == list(itertools.product(range(100), range(1, 101)))


def test_who_set_a_bad_value_of_a_sweep_is_named(write):
    write(base=trained("", "sweep: {training.seed: [-1]}"), mine="base: base.yaml\noutput: null")
    assert refused().startswith("base.yaml, member seed=-1: training.seed is -1")
    message = refused(["sweep=null", "training.batch_size=[0]"])
    assert message.startswith("--set training.batch_size=[0], member batch_size=0: training.batch_size is 0")


# Options, who said it, what is swept over, and why.
SINGLE = [
    ("batch_size: [1, 2]", "", [], "mine.yaml: has a sweep over training.batch_size;", "a list"),
    ("batch_size: [1]", "", [], "mine.yaml: has a sweep over training.batch_size;", "a list of one"),
    (
        "batch_size: [1]",
        "sweep: {model.name: [a]}",
        [],
        "mine.yaml: has a sweep over training.batch_size, model.name;",
        "both kinds",
    ),
    (
        "",
        "",
        ["training.seed=[1, 2]"],
        "--set training.seed=[1, 2]: has a sweep over training.seed;",
        "an option",
    ),
    (
        "batch_size: [1]",
        "",
        ["training.seed=[1, 2]"],
        "mine.yaml: has a sweep over training.batch_size, training.seed;",
        "file and option",
    ),
]


@pytest.mark.parametrize(("text", "more", "overrides", "start", "why"), SINGLE)
def test_only_train_takes_a_sweep(write, text, more, overrides, start, why):
    write(mine=trained(text, more))
    message = refused(overrides, read=load)
    assert message.startswith(start), why
    assert message.endswith("only train takes one; use the configuration.yaml in each member's folder"), why


def test_text_and_mappings_with_a_sweep_are_refused_too():
    with pytest.raises(LandscapeError, match=r"^x: has a sweep over training\.seed; only train takes one"):
        load_text(trained("seed: [1]"), where="x")
    values = {"model": "a", "data": "b", "training": {"output": "o", "epochs": 1, "seed": [1]}}
    with pytest.raises(LandscapeError, match=r"^x: has a sweep over training\.seed; only train takes one"):
        from_mapping(values, where="x")


@pytest.mark.parametrize("sweep", ["null", "{}", "{model.name: null}"])
def test_a_sweep_over_nothing_is_none(write, sweep):
    write(mine=trained("", f"sweep: {sweep}"))
    assert load("mine.yaml") == load_text(trained(""), where="x")


def test_all_files_come_in_order_each_member_with_its_file(write):
    write(
        one=trained("seed: [2, 1]"),
        two=BASE,
        three=trained("").replace("runs/x", "runs/y"),
    )
    pairs = load_all(["three.yaml", "one.yaml", "two.yaml"], ["compute.threads=3"])
    assert [name for name, _ in pairs] == ["three.yaml", "one.yaml", "one.yaml", "two.yaml"]
    assert [member.training and member.training.seed for _, member in pairs] == [0, 2, 1, None]
    assert {member.compute.threads for _, member in pairs} == {3}


# Outputs of one.yaml and of two.yaml that are one folder.
FOLDERS_TWICE = [
    ("runs/x", "runs/x", "the same text"),
    ("runs/x", "runs/x/", "a separator at the end"),
    ("runs/x", "./runs/../runs/x", "another way there"),
    ("runs/x", "link", "a link"),
]


@pytest.mark.parametrize(("one", "two", "why"), FOLDERS_TWICE)
def test_two_files_that_train_in_one_folder_are_refused_by_both_names(write, tmp_path, one, two, why):
    (tmp_path / "link").symlink_to(tmp_path / "runs" / "x")
    write(one=trained("").replace("runs/x", one), two=trained("").replace("runs/x", two))
    with pytest.raises(LandscapeError) as caught:
        load_all(["one.yaml", "two.yaml"])
    assert str(caught.value) == (
        f"two.yaml: training.output is {two!r}, as in one.yaml; expected a folder for each training"
    ), why


def test_a_file_that_is_given_twice_is_refused(write):
    write(mine=trained("seed: [1, 2]"))
    path = "mine.yaml"
    with pytest.raises(LandscapeError, match=r"^mine\.yaml: training\.output is .*seed=1', as in mine\.yaml"):
        load_all([path, path])


def test_a_member_and_a_file_with_the_same_folder_are_refused(write):
    write(one=trained("seed: [1, 2]"), two=trained("").replace("runs/x", "runs/x/seed=2"))
    with pytest.raises(LandscapeError, match=r"^two\.yaml: .*as in one\.yaml"):
        load_all(["one.yaml", "two.yaml"])
