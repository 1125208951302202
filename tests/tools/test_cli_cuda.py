"""`fastdrop inspect` and `fastdrop compile`."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from cuda_tools import needs_tools
from processes import run_python

from fastdrop.cli import main
from fastdrop_kernels.cuda import cubins, packages

FLOATS = ["float16", "bfloat16", "float32", "float64"]
KERNELS = ["--kernel", "dropout,mask"]  # all take minutes


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command says on stderr that exits with 2, and says nothing else."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    return shown.err


@needs_tools
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["inspect", "softmax"], ["name", "'softmax'", "dropout", "mask"]),
        (["inspect", "dropout", "--dtype", "int8"], ["--dtype", "'int8'", *FLOATS]),
        (["inspect", "dropout", "--dtype", "bool"], ["--dtype", "'bool'", *FLOATS]),
        (["inspect", "mask", "--dtype", "float32"], ["--dtype", "'float32'", "one of bool for mask"]),
        (["inspect", "dropout", "--arch", "sm_99"], ["--arch", "'sm_99'", "sm_80, ", "sm_90, "]),
        (["inspect", "dropout", "--arch", "90"], ["--arch", "'90'", "sm_90, "]),
        (["inspect", "dropout", "--arch", "sm_80,sm_90"], ["--arch", "one architecture", "'sm_80,sm_90'"]),
        (["inspect", "dropout", "--ptx", "--sass"], ["--sass", "not allowed with", "--ptx"]),
        (["compile"], ["--arch"]),
        (["compile", "--arch", "sm_90,"], ["--arch", "'sm_90,'", "sm_80, "]),
        (["compile", "--arch", "sm_90", "--dtype", "int8"], ["--dtype", "'int8'", *FLOATS, "bool"]),
        (
            ["compile", "--arch", "sm_90", "--kernel", "mask,relu"],
            ["--kernel", "'mask,relu'", "dropout, segments_dropout"],
        ),
    ],
)
def test_bad_arguments_are_refused_with_what_was_expected_and_what_came(arguments, expected, capsys, monkeypatch):
    monkeypatch.setattr(cubins, "cubin", lambda *_: pytest.fail("compiled"))
    said = refused(arguments, capsys)
    assert [words for words in expected if words not in said] == []


def code_and_loop(name: str, dtype: str, capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    """Return the instructions that --sass prints, and those that it marks as the main loop."""
    assert main(["inspect", name, "--dtype", dtype, "--sass"]) == 0
    before, marked = capsys.readouterr().out.split("// main loop, for ")
    loop, after = marked.split("// end of the main loop")
    instruction = re.compile(r"/\*[0-9a-f]{4}\*/ +(.*?) *;")
    return instruction.findall(before + loop + after), instruction.findall(loop)


@needs_tools
@pytest.mark.parametrize(
    ("name", "dtype", "elements", "memory", "elsewhere"),
    [
        ("dropout", "float32", 8, "2 loads of 128 bits, 2 stores of 128 bits", "1 load of 32 bits, 1 load of 64 bits"),
        ("mask", "bool", 16, "1 store of 128 bits", "1 load of 64 bits, 1 store of 8 bits"),
    ],
)
def test_summary_agrees_with_the_code_that_is_printed(name, dtype, elements, memory, elsewhere, capsys):
    code, loop = code_and_loop(name, dtype, capsys)
    assert main(["inspect", name]) == 0  # of this dtype, for sm_90
    told, operations = capsys.readouterr().out.split("\n\n")
    told = {line[:14].strip(): line[14:] for line in told.splitlines()}
    assert told["kernel"] == f"fastdrop_{name}_{dtype} for sm_90"
    assert told["parameters"].startswith("x: u64, y: u64, second: u64, third: u64, start: u64, count: u64, ")
    assert told["parameters"].endswith("p32: u64, scale: f64, shift: f64, fill: f64, repeat: u64, inner: u64")
    highest = max(int(number) for text in code for number in re.findall(r"\bR(\d+)\b", text))
    assert highest < int(told["registers"].removesuffix(" a thread")) <= highest + 12  # some are reserved
    assert told["stack"] == "0 bytes; spilled: 0 bytes stored, 0 loaded"
    assert told["local memory"] == "0 accesses" and told["calls"] == "none"
    assert told["code"] == f"{16 * len(code)} bytes, {len(code)} instructions"
    assert told["main loop"] == f"{len(loop)} instructions for {elements} elements, {len(loop) / elements:.1f} each"
    assert told["memory"] == memory
    assert f"{sum('STG.E.128' in text for text in loop)} store" in memory
    assert told["elsewhere"].startswith(elsewhere)
    counts = {line.split()[0]: int(line.split()[1]) for line in operations.splitlines()[1:]}
    assert sum(counts.values()) == len(loop)
    assert counts["LOP3"] == sum("LOP3" in text for text in loop)
    assert counts["IMAD.WIDE"] == sum("IMAD.WIDE" in text and "UIMAD" not in text for text in loop)


@needs_tools
def test_ptx_is_printed(capsys):
    assert main(["inspect", "dropout", "--dtype", "bfloat16", "--arch", "sm_80", "--ptx"]) == 0
    shown = capsys.readouterr().out
    assert ".target sm_80" in shown
    assert re.search(r"\.visible \.entry fastdrop_dropout_bfloat16\(\s*\.param \.u64 x,", shown)
    assert "ld.global.v4.u32" in shown


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-m", "fastdrop", "info"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def compiled(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    """Return the sizes that `fastdrop compile` gives, by path."""
    assert main(["compile", *arguments]) == 0
    files, _ = capsys.readouterr().out.split("\n\n")
    return {path: int(size.removesuffix(" bytes")) for path, size in (line.split(": ") for line in files.splitlines())}


@needs_tools
def test_compiled_kernels_are_where_it_says_and_serve_another_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FASTDROP_CACHE_DIR", str(tmp_path / "here"))
    told = compiled(["--arch", "sm_80,sm_90", *KERNELS], capsys)
    files = {path: path.stat() for path in (tmp_path / "here").rglob("*") if path.is_file()}
    assert told == {str(path): stat.st_size for path, stat in files.items()}
    names = {f"dropout-{dtype}" for dtype in FLOATS} | {"mask-bool"}
    assert {os.path.basename(path) for path in told} == {f"{n}-{a}.cubin" for n in names for a in ("sm_80", "sm_90")}
    assert all(path.read_bytes().startswith(b"\x7fELF") for path in files)

    monkeypatch.setattr(cubins, "ptx", lambda *_: pytest.fail("compiled again"))
    assert compiled(["--arch", "sm_90,sm_80", "--dtype", "all", *KERNELS], capsys) == told
    assert all(path.stat().st_mtime_ns == stat.st_mtime_ns for path, stat in files.items())

    assert main(["compile", "--arch", "sm_90", *KERNELS]) == 0
    carry = capsys.readouterr().out.split("\n\n")[1].splitlines()
    shutil.copytree(carry[1], tmp_path / "there" / os.path.basename(carry[1]))
    monkeypatch.setenv("FASTDROP_CACHE_DIR", str(tmp_path / "there"))
    assert cubins.cubin("mask", "bool", (9, 0)).startswith(b"\x7fELF")


@needs_tools
def test_only_what_is_asked_for_is_compiled(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FASTDROP_CACHE_DIR", str(tmp_path))
    told = compiled(["--arch", "sm_90", "--dtype", "float64,bool,float64", *KERNELS], capsys)
    assert [os.path.basename(path) for path in told] == ["dropout-float64-sm_90.cubin", "mask-bool-sm_90.cubin"]
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


@needs_tools
def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("FASTDROP_CACHE_DIR", str(tmp_path / "file"))
    said = refused(["compile", "--arch", "sm_90", "--dtype", "float32"], capsys)
    assert said.count("\n") == 1
    assert "cannot be" in said and str(tmp_path / "file" / "fastdrop") in said


@needs_tools
def test_a_cache_folder_that_is_refused_is_named_before_anything_is_compiled(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FASTDROP_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cubins, "ptx", lambda *_: pytest.fail("compiled"))
    (tmp_path / "fastdrop").mkdir()
    (tmp_path / "fastdrop").chmod(0o777)
    said = refused(["compile", "--arch", "sm_90", "--dtype", "float32"], capsys)
    assert said.count("\n") == 1 and f"{tmp_path / 'fastdrop'} can be written by other users" in said


@needs_tools
def test_what_could_not_be_kept_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FASTDROP_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cubins, "cubin", lambda *_: b"compiled, and the disk is full")
    said = refused(["compile", "--arch", "sm_90", "--kernel", "mask"], capsys)
    assert said.count("\n") == 1 and "mask-bool-sm_90.cubin could not be written" in said


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["inspect", "mask"], "inspect"),
        (["inspect", "mask", "--ptx"], "inspect"),
        (["compile", "--arch", "sm_90"], "cuda13"),
    ],
)
def test_missing_numba_cuda_is_named(arguments, extra, monkeypatch, capsys):
    def version(name: str) -> str:
        raise packages.metadata.PackageNotFoundError(name)

    monkeypatch.delitem(vars(packages), "cuda", raising=False)
    monkeypatch.setattr(packages.metadata, "version", version)
    said = refused(arguments, capsys)
    assert said.count("\n") == 1
    assert said.startswith(f'fastdrop {arguments[0]} needs what pip install "fastdrop[{extra}]" brings: ')
    assert "numba-cuda, which is not installed" in said


@needs_tools
def test_missing_nvdisasm_is_named_and_ptx_needs_none(monkeypatch, capsys):
    monkeypatch.setattr("cuda.pathfinder.find_nvidia_binary_utility", lambda name: None)
    monkeypatch.setenv("PATH", "")
    said = refused(["inspect", "dropout"], capsys)
    assert said.count("\n") == 1
    assert 'fastdrop inspect needs what pip install "fastdrop[inspect]" brings: ' in said and "nvdisasm" in said
    assert main(["inspect", "dropout", "--ptx"]) == 0


def test_other_commands_do_without_numba_cuda():
    code = "import sys; from fastdrop.cli import main; main(['info']); print('numba.cuda' in sys.modules)"
    assert run_python(code).splitlines()[-1] == "False"
