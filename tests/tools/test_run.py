"""`fastdrop run`: an unmodified training script, and programs that are run as Python itself runs them."""

import atexit
import contextlib
import io
import json
import os
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import pytest
from processes import in_new_process, run_python

from fastdrop.cli import main

TRAINING = """
import argparse
import os
import sys

import torch
from torch import nn
from torch.nn import functional as F

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int)
parser.add_argument("--summary", action="store_true")
arguments = parser.parse_args()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout2d(0.2))
        self.dense = nn.Sequential(nn.Flatten(), nn.Linear(4 * 6 * 6, 16), nn.Dropout(0.5, inplace=True))
        self.last = nn.Dropout(0.0)

    def forward(self, x):
        return F.dropout(self.last(self.dense(self.convolution(x))), 0.25, self.training)


torch.manual_seed(0)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), 0.01)
for step in range(arguments.steps):
    optimizer.zero_grad()
    model(torch.randn(5, 1, 8, 8)).square().mean().backward()
    optimizer.step()
model.eval()
model(torch.randn(3, 1, 8, 8))
if child := os.fork():
    os.waitpid(child, 0)
else:
    sys.exit()
print("trained", arguments.steps, arguments.summary)
sys.exit(3)
"""

HOOKS = """
import json, runpy, sys
import torch
from torch.nn import functional as F

counts = {{}}

def count(name, x, p, training):
    fate = "eval mode" if not training else "p = 0" if p == 0 else ""
    calls, elements = counts.get(f"{{name}}|{{fate}}", (0, 0))
    counts[f"{{name}}|{{fate}}"] = calls + 1, elements + x.numel()

original = F.dropout
def dropout(x, p=0.5, training=True, inplace=False):
    count("torch.dropout_" if inplace else "torch.dropout", x, p, training)
    return original(x, p, training, inplace)
F.dropout = dropout
torch.nn.modules.module.register_module_forward_hook(
    lambda module, args, _: count("torch.feature_dropout", args[0], module.p, module.training)
    if isinstance(module, torch.nn.Dropout2d) else None
)
sys.argv = {argv!r}
try:
    runpy.run_path({path!r}, run_name="__main__")
except SystemExit:
    print(json.dumps(counts))
"""

KEPT = {"torch.feature_dropout": 5 * 4, "torch.dropout_": 5 * 16, "torch.dropout": 5 * 16}  # elements of masks, a step


def test_a_training_script_as_it_is(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(TRAINING)
    arguments = ["--steps", "4", "--summary"]
    counts = json.loads(run_python(HOOKS.format(argv=[str(path), *arguments], path=str(path))).splitlines()[-1])
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "fastdrop", "run", "--summary", str(path), *arguments]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (3, "trained 4 True\n"), done.stderr
    _, table = done.stderr.split("\nfastdrop: ")  # one, of this process
    title, head, *lines, _ = table.splitlines()
    assert title == f"dropout calls of {path}"
    shown = {}
    for line in lines:
        function, computed_by, reason, *numbers = (line[a:b].strip() for a, b in columns(head))
        calls, elements, kept = (int(number.replace(",", "")) for number in numbers)
        assert computed_by == ("none" if reason else "CPU kernel")
        assert kept == (0 if reason else 4 * 4 * KEPT[function])
        shown[f"{function}|{reason}"] = [calls, elements]
    assert shown == counts and len(shown) == 7
    assert path.read_text() == TRAINING


def columns(head: str) -> list[tuple[int, int]]:
    """Return where a table's columns are: the first three begin where their titles do, the others end there."""
    names = ["function", "computed by", "reason", "calls", "elements", "bytes not kept"]
    starts = [head.index(name) for name in names[:3]]
    ends = [head.index(name) + len(name) for name in names[3:]]
    edges = [*starts, head.index("calls"), *ends[:2]]
    return [*zip(starts, edges[1:4], strict=True), (edges[3], ends[0]), (ends[0], ends[1]), (ends[1], ends[2])]


PROGRAM = """
import pickle, sys

class Thing:
    pass

own = sys.modules["__main__"]
print(sys.argv, sys.path[0], __name__, __file__, __package__, type(__loader__).__name__, type(__spec__).__name__)
print(vars(own) is globals(), type(pickle.loads(pickle.dumps(Thing()))).__module__)
if sys.argv[1:] == ["fail"]:
    def fail():
        raise BrokenPipeError("on purpose")
    fail()
if sys.argv[1:] == ["leave"]:
    sys.exit("text")
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("programs")
    for name in ("script.py", "folder/__main__.py", "package/__main__.py", "package/__init__.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(PROGRAM if "init" not in name else "")
    (folder / "linked").mkdir()
    (folder / "linked" / "script.py").symlink_to(folder / "script.py")
    (folder / "wrong.py").write_text("x = (\n")
    (folder / "empty").mkdir()
    with zipfile.ZipFile(folder / "packed.zip", "w") as file:
        file.writestr("__main__.py", PROGRAM)
    return folder


def run_in_child(folder: Path, words: list[str], **environment: str) -> tuple[object, str, str]:
    """Return a program's exit code and what it wrote, from a process that may be changed: `fastdrop run` is in it."""
    os.chdir(folder)
    os.environ.update(environment)
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            code: object = main(["run", *words])
        except SystemExit as end:  # what Python does with it
            code = end.code if isinstance(end.code, int) else 1
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except BaseException as error:
            code = 1
            sys.excepthook(type(error), error, error.__traceback__)
        atexit._run_exitfuncs()
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize(
    "words",
    [
        ["script.py"],
        ["script.py", "--summary", "--help", "-m", "--", "x"],
        ["./script.py", "fail"],
        ["script.py", "leave"],
        ["linked/script.py"],
        ["folder", "fail"],
        ["packed.zip", "-h"],
        ["empty"],
        ["wrong.py"],
        ["-m", "package", "--summary"],
        ["-m", "package", "fail"],
        ["-m", "package.nothing"],
        ["-m", "script", "leave"],
    ],
    ids=" ".join,
)
def test_programs_run_as_python_runs_them(programs, words):
    done = subprocess.run([sys.executable, *words], cwd=programs, capture_output=True, text=True, timeout=300)
    assert in_new_process(run_in_child, programs, words) == (done.returncode, done.stdout, done.stderr)


def test_the_words_after_the_programs_name_are_its_own(programs):
    for words in (["--", "script.py", "--summary"], ["--summary", "--", "script.py", "--summary"]):
        code, out, err = in_new_process(run_in_child, programs, words)
        assert code == 0 and out.startswith("['script.py', '--summary']")
        assert err == "" if words[0] == "--" else "no dropout was called" in err


@pytest.mark.parametrize("end", ["fail", "leave"])
def test_the_table_is_shown_however_the_program_ends(programs, end):
    code, _, err = in_new_process(run_in_child, programs, ["--summary", "-m", "package", end])
    assert code == 1
    assert ("BrokenPipeError: on purpose" if end == "fail" else "text\n") in err
    assert err.endswith("\nfastdrop: dropout calls of package\nno dropout was called\n")


def test_each_rank_of_torchrun_names_itself(programs):
    *_, err = in_new_process(partial(run_in_child, RANK="1"), programs, ["--summary", "script.py"])
    assert "fastdrop: dropout calls of script.py, rank 1\n" in err


@pytest.mark.parametrize(
    "words, error",
    [
        ([], "expected a script, or -m and a module"),
        (["--summary"], "expected a script, or -m and a module"),
        (["-m"], "expected a module's name after -m"),
        (["--sum", "script.py"], "expected --summary, -m or a script, but got --sum"),
        (["nowhere.py"], "fastdrop run: can't open file"),
    ],
)
def test_bad_command_lines(programs, monkeypatch, capsys, words, error):
    monkeypatch.chdir(programs)
    with pytest.raises(SystemExit) as end:
        main(["run", *words])
    assert end.value.code == 2 and error in capsys.readouterr().err


def test_help_says_where_the_table_goes(capsys):
    assert main(["run", "--help"]) == 0
    assert "stderr" in capsys.readouterr().out
