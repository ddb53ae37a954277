"""Ranks that stand ready do what a launch does, and every program finds a new process's state."""

import pytest

from tests.exhaustive import EXHAUSTIVE

pytestmark = pytest.mark.mpi

# Prints what the next program must not see, and changes it.
UNTIDY = """
import os, random, signal, sys, warnings
import torch

print(os.environ.get("UNTIDY"), os.getcwd() == os.environ["PLACE"], torch.get_default_dtype(), torch.rand(1).item())
print(signal.getsignal(signal.SIGUSR2), sys.argv[1:], "mine" in sys.modules)
warnings.warn("each time")
import mine

os.environ["UNTIDY"] = "1"
os.environ["PLACE"] = "/"
os.chdir("/")
torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
torch.set_num_threads(3)
signal.signal(signal.SIGUSR2, signal.SIG_IGN)
warnings.simplefilter("ignore")
sys.argv.append("more")
raise SystemExit("the end")
"""


def test_they_leave_the_file_and_the_words_of_a_launch(study, standing, launch, contents):
    program = ("-m", "mpi_landscape.surface", study.configuration)
    launched = launch(2, *program, "--output", study.folder / "launched.h5")
    stood = standing(2, *program)
    assert (launched.returncode, stood.returncode) == (0, 0), launched.stderr + stood.stderr
    assert contents(study.output) == contents(study.folder / "launched.h5")
    kinds = [{line.split()[0] for line in done.stdout.splitlines()[:8]} for done in (launched, stood)]
    assert kinds[0] == kinds[1]
    refused = [run(2, *program, "--alpha=1:0:3") for run in (launch, standing)]
    assert refused[0].returncode == refused[1].returncode == 2
    # Launchers may add words of their own.
    said = [[line for line in done.stderr.splitlines() if "error: " in line] for done in refused]
    assert said[0] == said[1]
    assert len(said[0]) == 1


def test_a_program_finds_nothing_of_the_one_before(tmp_path, standing):
    (tmp_path / "untidy.py").write_text(UNTIDY)
    (tmp_path / "mine.py").write_text("")
    first, second = (
        standing(2, tmp_path / "untidy.py", "word", cwd=tmp_path, env={"PLACE": str(tmp_path)})
        for _ in range(2)
    )
    assert first.returncode == 1
    assert first.stdout.startswith("None True torch.float32 ")
    assert first.stdout.splitlines()[1].endswith("['word'] False")
    assert first.stderr.count("each time") == 4, "the text and its line, on each rank"
    assert first.stderr.count("the end\n") == 2
    assert (second.returncode, second.stdout, second.stderr) == (1, first.stdout, first.stderr)


def test_a_module_that_has_changed_is_read_again(tmp_path, standing):
    (tmp_path / "asks.py").write_text("import asked\nprint(asked.answer)\n")
    for answer in (1, 2):
        # As long as before, and within the same second.
        (tmp_path / "asked.py").write_text(f"answer = {answer}\n")
        assert standing(2, tmp_path / "asks.py").stdout == f"{answer}\n" * 2


@EXHAUSTIVE
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import os, sys\nprint('last words', flush=True)\nos._exit(0)\n", "has ended"),
        ("print('last words')\nraise ValueError('mine')\n", "ValueError: mine"),
        (
            "import threading\nprint('last words')\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n",
            "left something behind: rank 0: threads Thread-1",
        ),
    ],
    ids=["an end without a word", "an exception", "a thread"],
)
def test_a_program_that_ends_them_or_goes_on_is_reported_and_others_take_their_place(
    tmp_path, standing, text, words
):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(RuntimeError, match=words) as caught:
        standing(2, tmp_path / "bad.py")
    assert "bad.py" in str(caught.value)
    (tmp_path / "good.py").write_text("print('here')\n")
    assert standing(2, tmp_path / "good.py").stdout == "here\nhere\n"
