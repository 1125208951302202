"""`python -m bench.gpu` with a CPU in the GPU's place: the whole run, what it leaves out, and what fails in it."""

import json
import sys
from typing import Any

import pytest
import torch
from bench_on_cpu import PLAN, SECTIONS, SIZES, Clock, CpuDevice, no_compiler, session

from bench.gpu import command, providers, report, speed
from bench.gpu.device import CudaDevice
from bench.gpu.session import Outcome, Section, Session, reason
from bench.tables import WIDTH


@pytest.fixture
def rivals_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one baseline that cannot be built and one that cannot be called; both could take a test minutes."""

    def refuse(x: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setitem(providers.BUILDERS, "compiled", no_compiler)
    monkeypatch.setitem(providers.BUILDERS, "triton", lambda: refuse)


def test_the_whole_run(tmp_path, capsys, monkeypatch, rivals_fail, few_cases):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert command.run(CpuDevice(), PLAN, sections=SECTIONS) == 0
    (path,) = tmp_path.glob("gpu-a-gpu-of-1-more-????-??-??.json")
    document = json.loads(path.read_text())
    assert document["system"]["torch"] == torch.__version__ and document["quick"] and document["left_out"] == []
    assert list(document["sections"]) == ["check", "memory", "host", "speed", "graphs"]
    assert document["sections"]["check"]["failures"] == [] and document["sections"]["check"]["cases"] > 100
    rows = document["sections"]["speed"]["rows"]
    kinds = {(row["dtype"], row["size"], row["part"]) for row in rows}
    assert kinds == {(d, s, p) for d in ("float32", "bfloat16") for s in SIZES for p in ("forward", "forward_backward")}
    for row in rows:
        assert row["providers"].keys() == {"native", "fastdrop", "fastdrop_into", "clone", "copy"}
        assert row["failed"] == {
            "compiled": "RuntimeError: no compiler to be found",
            "triton": "OutOfMemoryError: no memory",
        }
        ours, copy = row["providers"]["fastdrop"], row["providers"]["copy"]
        assert ours["share_of_copy"] == pytest.approx(copy["seconds"] / ours["seconds"])
        accesses = 2 if row["part"] == "forward" else 4
        itemsize = 4 if row["dtype"] == "float32" else 2
        assert ours["gb_per_second"] == pytest.approx(accesses * row["size"] * itemsize / ours["seconds"] / 1e9)
    assert [target["met"] for target in document["targets"][:4]] == [None] * 4  # of sizes that this run has not
    shown = capsys.readouterr().out
    for text in ("bfloat16, forward + backward: µs", "1K", "no compiler to be found", "float32 64 forward and 7 more"):
        assert text in shown
    assert max(map(len, shown.splitlines())) <= WIDTH + len(str(tmp_path))


def test_without_matplotlib_there_is_no_picture_and_all_else(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    paths = tmp_path / "a.json", tmp_path / "a.png"
    assert command.run(CpuDevice(), PLAN, *paths, sections=[]) == 0
    assert "no plot: ModuleNotFoundError" in capsys.readouterr().out
    assert paths[0].exists() and not paths[1].exists()


def test_what_there_is_no_time_for_is_said(tmp_path, capsys, rivals_fail):
    path = tmp_path / "a.json"
    sections = [section._replace(seconds=0.0) for section in SECTIONS]
    assert command.run(CpuDevice(), PLAN, path, tmp_path / "a.png", sections=sections) == 0
    left_out = json.loads(path.read_text())["left_out"]
    assert "speed: bfloat16, 1K, forward" in left_out and "check: dropout_mask" in left_out
    assert {what.partition(":")[0] for what in left_out} == {section.name for section in sections}
    shown = capsys.readouterr().out
    assert all(f"no time left for {what}" in shown for what in left_out)
    assert all(target["met"] is None for target in json.loads(path.read_text())["targets"])


def test_the_whole_run_has_a_limit_too(tmp_path):
    clock, begun = Clock(), []

    def take_all(session: Session) -> Outcome:
        clock.now += command.LIMIT - 5
        return Outcome({})

    def ask(session: Session) -> Outcome:
        begun.append(session.deadline.left())
        return Outcome({})

    sections = [Section("all", take_all, 1e9), Section("ask", ask, 60.0), Section("short", ask, 3.0)]
    command.run(CpuDevice(), PLAN, tmp_path / "a.json", tmp_path / "a.png", sections=sections, clock=clock)
    assert begun == [5.0, 3.0]


def test_large_sizes_come_first(monkeypatch):
    clock = Clock()

    def measured(*what: Any) -> dict[str, Any]:
        clock.now += 1.0
        _, dtype, size, part = what
        return {"dtype": "float32", "size": size, "part": part, "in_l2": False, "providers": {}, "failed": {}}

    monkeypatch.setattr(speed, "measure", measured)
    cut = session(3.0, sizes=(16, 64, 1024), clock=clock)
    assert [row["size"] for row in speed.section(cut).data["rows"]] == [64, 1024, 1024]
    assert cut.left_out == [
        "float32, 64, forward + backward",
        "float32, 16, forward",
        "float32, 16, forward + backward",
    ]


def test_a_section_that_fails_does_not_take_the_others_with_it(tmp_path, capsys):
    path = tmp_path / "a.json"
    sections = [Section("bad", lambda _: no_compiler(), 1.0), Section("good", lambda _: Outcome({"found": 1}), 1.0)]
    assert command.run(CpuDevice(), PLAN, path, tmp_path / "a.png", sections=sections) == 0
    assert json.loads(path.read_text())["sections"] == {
        "bad": {"error": "RuntimeError: no compiler to be found"},
        "good": {"found": 1},
    }
    assert "bad failed: RuntimeError: no compiler to be found" in capsys.readouterr().out


def test_a_reason_tells_the_first_cause():
    try:
        try:
            raise ValueError("first")
        finally:
            raise RuntimeError("capture failed")
    except RuntimeError as error:
        assert reason(error) == "RuntimeError: capture failed <- ValueError: first"


def test_no_memory_for_a_size_is_told_of_that_size(monkeypatch):
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(providers, "buffers", full)
    outcome = speed.section(session())
    assert all(row["failed"] == {"all": "OutOfMemoryError: no memory"} for row in outcome.data["rows"])
    assert len(outcome.tables) == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_whole_run_on_a_gpu(tmp_path, rivals_fail, few_cases):
    path = tmp_path / "a.json"
    assert command.run(CudaDevice(), PLAN, path, tmp_path / "a.png", SECTIONS) == 0
    document = json.loads(path.read_text())
    assert document["left_out"] == [] and document["sections"]["check"]["failures"] == []
    assert [target["met"] for target in document["targets"][-2:]] == [True, True]
    assert all("fastdrop" in row["providers"] for row in document["sections"]["speed"]["rows"])
