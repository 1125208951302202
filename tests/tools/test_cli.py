"""The command line and the timing behind it."""

import ctypes
import io
import json
import os
import re
import sys

import numba
import pytest
import torch
from processes import run_python
from rich.console import Console

import fastdrop
from fastdrop.bench import providers, report
from fastdrop.bench.timing import SAMPLE, Timing, interleaved
from fastdrop.cli import info, main
from fastdrop_kernels.cache import user_cache_folder

BENCH = ["bench", "--quick", "--threads", "1"]


def test_info_names_versions_threads_and_cache(capsys):
    assert main(["info"]) == 0
    told = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    told = {name: value.strip() for name, value in told.items()}
    assert told["fastdrop"] == fastdrop.__version__
    assert told["torch"] == torch.__version__
    assert told["numba"] == numba.__version__
    assert told["threads"].startswith(str(torch.get_num_threads()))
    assert told["cache"].startswith(str(user_cache_folder()))
    assert "CUDA" in told


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_a_library_is_found_by_an_address_in_it():
    path = torch._C.__file__
    address = ctypes.cast(ctypes.CDLL(path).PyInit__C, ctypes.c_void_p).value
    assert os.path.samefile(info.library_at(address), path)
    assert info.library_at(0) is None


def test_info_says_why_nothing_is_cached():
    assert "none, every process compiles anew" in run_python(
        "from fastdrop.cli import main; main(['info'])", FASTDROP_CACHE_DIR="/proc/nowhere"
    )


def test_bench_shows_tables_and_writes_json(tmp_path, capsys):
    path = tmp_path / "results.json"
    before = torch.get_num_threads()
    assert main([*BENCH, "--sizes", "64,4096", "--dtype", "float32,bfloat16", "--json", str(path)]) == 0
    assert torch.get_num_threads() == before
    shown = capsys.readouterr().out
    assert "forward + backward" in shown and "4096" in shown and report.LEGEND in shown
    document = json.loads(path.read_text())
    assert document["system"]["torch"] == torch.__version__
    assert [(r["dtype"], r["size"], r["threads"]) for r in document["results"]] == [
        ("float32", 64, 1),
        ("float32", 4096, 1),
        ("bfloat16", 64, 1),
        ("bfloat16", 4096, 1),
    ]
    for result in document["results"]:
        forward = result["forward"]
        assert {"native", "fastdrop", "clone", "fastdrop_into", "copy", "ratios"} == set(forward)
        assert all(forward[name]["seconds"] > 0 for name in forward if name != "ratios")
        ratio = forward["fastdrop_into"]["seconds"] / forward["copy"]["seconds"]
        assert forward["ratios"]["fastdrop_into / copy"] == pytest.approx(ratio)
        assert result["bytes_kept"]["fastdrop"] == 0 < result["bytes_kept"]["native"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bench", "--dtype", "float8"], "'float8'"),
        (["bench", "--sizes", "64,none"], "'64,none'"),
        (["bench", "--sizes", "0"], "'0'"),
        (["bench", "--threads", "100000"], "'100000'"),
        (["bench", "--json", "/proc/nowhere/results.json"], "/proc/nowhere"),
        (["banch"], "'banch'"),
        ([], "command"),
    ],
)
def test_bad_arguments_are_refused_with_what_came_before_anything_is_measured(arguments, said, capsys, monkeypatch):
    monkeypatch.setattr("fastdrop.bench.run.run", lambda *_: pytest.fail("measured"))
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_a_folder_is_no_json_file_and_nothing_is_left_in_it(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*BENCH, "--json", str(tmp_path)])
    assert os.listdir(tmp_path) == []
    assert "expected a file" in capsys.readouterr().err


def test_json_that_cannot_be_finished_leaves_what_was_there(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("old")
    with pytest.raises(TypeError):
        report.write({"not JSON": object()}, path)
    assert path.read_text() == "old"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        report.write({"number": 1}, tmp_path / "folder")
    assert sorted(os.listdir(tmp_path)) == ["folder", "results.json"]


def result_of(size: int, ns_per_element: float, spread: float) -> report.Result:
    x = torch.zeros(1)
    timing = Timing(ns_per_element * 1e-9 * size, spread, rounds=15)
    return report.Result(
        dtype="bfloat16",
        threads=128,
        backend="python threads",
        size=size,
        forward=dict.fromkeys(providers.forward(x), timing),
        forward_backward=dict.fromkeys(providers.forward_backward(x), timing),
        bytes_kept={"native": 4.0, "fastdrop": 0.0},
    )


@pytest.mark.parametrize("part", report.PASSES)
def test_tables_fit_80_columns_of_any_terminal(part):
    shown = io.BytesIO()
    with io.TextIOWrapper(shown, encoding="ascii", newline="") as terminal:  # what it cannot show is an error
        rows = [result_of(64, ns_per_element=5000, spread=0.01), result_of(1 << 30, ns_per_element=0.0226, spread=1.23)]
        Console(file=terminal, width=80).print(report.table(rows, part))
        terminal.flush()
        text = shown.getvalue().decode()
    assert all(cell in text for cell in ("5e+03", "0.0226", "1073741824", "1.00x", "123%"))
    assert all(name in text for name in ("elements", "native", "fastdrop", "IQR"))


@pytest.mark.parametrize("part", report.PASSES)
def test_the_legend_has_every_word_of_the_headings_and_fits_80_columns(part):
    columns = report.table([result_of(64, ns_per_element=1, spread=0)], part).columns
    words = {word for column in columns for word in str(column.header).split()}
    assert words - {"elements"} <= set(re.split(r"[\s:.,]+", report.LEGEND))
    assert report.LEGEND.isascii() and max(map(len, report.LEGEND.splitlines())) <= 80


def test_missing_rich_is_named(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith(("rich", "fastdrop.bench"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(BENCH) == 2
    assert 'fastdrop bench needs rich: pip install "fastdrop[bench]"' in capsys.readouterr().err


def test_importing_fastdrop_imports_neither_rich_nor_the_benchmark_nor_what_compiles_graphs():
    code = """
import sys, torch, fastdrop
fastdrop.install()
torch.nn.functional.dropout(torch.ones(9, requires_grad=True), 0.5).sum().backward()
slow = ("rich", "fastdrop.bench", "fastdrop.cli", "torch._dynamo", "torch._inductor", "sympy")
print([name for name in slow if name in sys.modules])
"""
    assert run_python(code) == "[]"


class FakeTime:
    """A clock that only work moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def work(self, name: str, seconds: float):
        def run() -> None:
            self.now += seconds
            self.order.append(name)

        return run


def test_timing_gives_medians_of_interleaved_rounds():
    fake = FakeTime()
    functions = {"a": fake.work("a", 3 * SAMPLE), "b": fake.work("b", 6 * SAMPLE)}
    timings = interleaved(functions, budget=0.0, rounds=5, clock=lambda: fake.now)
    assert timings["b"].seconds == pytest.approx(2 * timings["a"].seconds) == pytest.approx(6 * SAMPLE)
    assert timings["a"].rounds == 5 and timings["a"].spread == pytest.approx(0, abs=1e-9)
    assert fake.order[-20:] == ["a", "a", "b", "b"] * 5  # the first of each turn is not timed


def test_timing_leaves_out_what_the_provider_before_has_left():
    fake = FakeTime()

    def cold_after_another() -> None:
        fake.work("b", SAMPLE if fake.order[-1:] == ["b"] else 100 * SAMPLE)()

    functions = {"a": fake.work("a", SAMPLE), "b": cold_after_another}
    timings = interleaved(functions, budget=0.0, rounds=5, clock=lambda: fake.now)
    assert timings["b"].seconds == pytest.approx(SAMPLE)


def test_timing_repeats_short_calls_until_a_sample_is_long_enough():
    fake = FakeTime()
    timings = interleaved({"short": fake.work("short", SAMPLE / 100)}, budget=0.0, rounds=2, clock=lambda: fake.now)
    assert timings["short"].seconds == pytest.approx(SAMPLE / 100)
    assert len(fake.order) >= 2 * 100


def test_timing_uses_its_budget():
    fake = FakeTime()
    timings = interleaved({"a": fake.work("a", 0.01)}, budget=1.0, rounds=2, clock=lambda: fake.now)
    assert 49 <= timings["a"].rounds <= 51  # of two calls each


def test_info_says_which_folder_is_refused_and_why(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTDROP_CACHE_DIR", str(tmp_path))
    assert info.cache().startswith(f"{tmp_path / 'fastdrop'}") and "0 compiled files" in info.cache()
    assert info.cubins() == "no cubins yet"
    (tmp_path / "fastdrop").chmod(0o777)
    refused = f"{tmp_path / 'fastdrop'} can be written by other users"
    assert info.cache() == f"none, every process compiles anew: {refused}"
    assert info.cubins() == f"no cubins: {refused}"


def test_info_works_without_a_home(monkeypatch):
    for name in ("FASTDROP_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("HOME", "")
    assert "none, every process compiles anew: there is no home folder" in info.text()
