"""`python -m bench.gpu` as a command: its arguments, what it needs, and what it asks of the machine."""

import subprocess
from typing import Any

import pytest
import torch
from processes import run_python

from bench.gpu import machine
from bench.gpu.__main__ import main


def test_without_a_gpu_one_line_says_so(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and "CUDA GPU" in told.err


def test_rich_is_named_where_it_is_missing():
    code = """
import sys, torch
sys.modules["rich"], sys.stderr, torch.cuda.is_available = None, sys.stdout, lambda: True
from bench.gpu.__main__ import main
print(main([]))
"""
    assert run_python(code).splitlines() == ['python -m bench.gpu needs rich: pip install "fastdrop[bench]"', "2"]


@pytest.mark.parametrize("arguments", [["--json", "/proc/nowhere/a.json"], ["--plot", "/"], ["--fast"]])
def test_bad_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2 and arguments[-1] in capsys.readouterr().err


def test_the_drivers_own_tool_is_asked_for_the_gpu_that_is_measured(monkeypatch):
    lines = [
        "GPU-aa, 580.1, 345 MHz, 1980 MHz, 3201 MHz, 700.00 W",
        "GPU-bb, 580.1, 1980 MHz, 1980 MHz, 3201 MHz, 700.00 W",
    ]

    def answer(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 0, "\n".join(lines))

    def missing(*_: Any, **__: Any) -> None:
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(subprocess, "run", answer)
    assert machine.smi("bb")["driver"] == "580.1" and machine.smi("bb")["SM clock"] == "1980 MHz"
    assert machine.smi("aa")["SM clock"] == "345 MHz" and machine.smi("cc")["driver"] == "unknown"
    del lines[1]
    assert machine.smi("cc")["SM clock"] == "345 MHz"  # the only one: told by another name
    monkeypatch.setattr(subprocess, "run", missing)
    assert set(machine.smi("aa").values()) == {"unknown"}
