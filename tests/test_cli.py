"""The command line and the timing behind it."""

import json
import os
import sys

import numba
import pytest
import torch
from processes import run_python

import fastdrop
from fastdrop.bench.timing import SAMPLE, interleaved
from fastdrop.cli import main
from fastdrop_kernels.cpu.compiler import cache_folder

BENCH = ["bench", "--quick", "--threads", "1"]


def test_info_names_versions_threads_and_cache(capsys):
    assert main(["info"]) == 0
    told = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    told = {name: value.strip() for name, value in told.items()}
    assert told["fastdrop"] == fastdrop.__version__
    assert told["torch"] == torch.__version__
    assert told["numba"] == numba.__version__
    assert told["threads"].startswith(str(torch.get_num_threads()))
    assert told["cache"].startswith(str(cache_folder()))
    assert "CUDA" in told


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
    assert "forward + backward" in shown and "4096" in shown
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
def test_bad_arguments_are_refused_with_what_came(arguments, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_a_folder_is_no_json_file_and_nothing_is_left_in_it(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*BENCH, "--json", str(tmp_path)])
    assert os.listdir(tmp_path) == []
    assert "expected a file" in capsys.readouterr().err


def test_missing_rich_is_named(monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith(("rich", "fastdrop.bench"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(BENCH) == 2
    assert 'pip install "fastdrop[bench]"' in capsys.readouterr().err


def test_importing_fastdrop_imports_neither_rich_nor_the_benchmark():
    code = "import sys, fastdrop; print([n for n in ('rich', 'fastdrop.bench', 'fastdrop.cli') if n in sys.modules])"
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
    assert fake.order[-10:] == ["a", "b"] * 5


def test_timing_repeats_short_calls_until_a_sample_is_long_enough():
    fake = FakeTime()
    timings = interleaved({"short": fake.work("short", SAMPLE / 100)}, budget=0.0, rounds=2, clock=lambda: fake.now)
    assert timings["short"].seconds == pytest.approx(SAMPLE / 100)
    assert len(fake.order) >= 2 * 100


def test_timing_uses_its_budget():
    fake = FakeTime()
    timings = interleaved({"a": fake.work("a", 0.01)}, budget=1.0, rounds=2, clock=lambda: fake.now)
    assert 99 <= timings["a"].rounds <= 101
