"""Cubins on disk: made once, carried to where no compiler is, replaced if broken."""

import inspect
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from processes import run_python

pytest.importorskip("numba_cuda")
pytest.importorskip("cuda.core")

from standin import build

from fastdrop_kernels import cache
from fastdrop_kernels.cuda import compiler, kernels

MASK = "mask", "bool", (9, 0)  # a kernel
LINKED = b"\x7fELF" + bytes(300_000)  # stands for a cubin


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a cache folder of its own, and return it."""
    monkeypatch.setenv("FASTDROP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def linked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have PTX linked at once, to `LINKED`, and return the architectures that it was linked for."""
    archs: list[str] = []
    monkeypatch.setattr(kernels, "ptx", lambda *kernel: "PTX")
    monkeypatch.setattr(compiler, "link", lambda ptx, arch: archs.append(arch) or LINKED)
    return archs


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_each_kernel_and_architecture_is_compiled_once(linked, folder):
    asked = [(*kernel, capability) for kernel in kernels.KERNELS for capability in ((8, 0), (9, 0), (12, 1))]
    for _ in range(2):
        assert {kernels.cubin(*kernel) for kernel in asked} == {LINKED}
        assert linked == ["sm_80", "sm_90", "sm_121"] * len(kernels.KERNELS)
    assert sorted(files(folder)) == sorted({kernels.cubin_path(*kernel) for kernel in asked})
    assert len(files(folder)) == len(asked)


TABLE_BEYOND = b"\x7fELF" + bytes(36) + (1000).to_bytes(8, "little") + bytes(16)


@pytest.mark.parametrize("content", [b"", b"\x7fEL", b"no cubin", TABLE_BEYOND, bytes(5000)], ids=len)
def test_what_is_no_cubin_is_replaced(linked, content):
    path = kernels.cubin_path(*MASK)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    assert kernels.cubin(*MASK) == path.read_bytes() == LINKED


def test_a_cubin_that_was_cut_off_is_replaced():
    """The driver would read on behind it."""
    whole, path = kernels.cubin(*MASK), kernels.cubin_path(*MASK)
    for size in (10, 64, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        assert kernels.cubin(*MASK) == path.read_bytes() == whole


@pytest.mark.parametrize("place", ["/proc/nowhere", "{file}", "{file}/below"])
def test_works_where_nothing_can_be_kept(linked, tmp_path, monkeypatch, place):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("FASTDROP_CACHE_DIR", place.format(file=blocked))
    assert [kernels.cubin(*MASK) for _ in range(2)] == [LINKED] * 2
    assert len(linked) == 2
    assert files(tmp_path) == [blocked]


def test_works_without_a_home_folder(linked, monkeypatch):
    def fail() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", fail)
    monkeypatch.setattr(cache.numba.config, "CACHE_DIR", "")
    for name in ("FASTDROP_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert kernels.cubin(*MASK) == LINKED


def test_a_folder_that_may_only_be_read_is_used(linked):
    kernels.cubin(*MASK)
    kernels.cubin_path(*MASK).chmod(0o444)
    kernels.cache_folder().chmod(0o555)
    assert kernels.cubin(*MASK) == kernels.cubin("mask", "bool", (8, 0)) == LINKED
    assert linked == ["sm_90", "sm_80"]


def test_cubins_can_be_read_by_whoever_may_read_new_files(linked, tmp_path):
    """Caches that one user has filled serve another: in an image that is built as root, for one."""
    kernels.cubin(*MASK)
    (tmp_path / "new").touch()
    assert kernels.cubin_path(*MASK).stat().st_mode == (tmp_path / "new").stat().st_mode


def test_a_failed_write_leaves_nothing(linked, folder, monkeypatch):
    def fail(*paths: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    assert kernels.cubin(*MASK) == LINKED
    assert files(folder) == []


def test_processes_at_once_never_see_half_a_file(folder):
    """Each links, writes, reads and deletes again and again; each time another content, of one number."""
    code = """
import contextlib, itertools, os, sys, types
from fastdrop_kernels.cuda import kernels
number = itertools.count(os.getpid() << 20)
link = lambda ptx, arch: b"\x7fELF" + bytes(60) + next(number).to_bytes(8, "little") * 100_000
kernels.ptx = lambda *kernel: "PTX"
sys.modules["fastdrop_kernels.cuda.compiler"] = types.SimpleNamespace(link=link)
path = kernels.cubin_path("mask", "bool", (9, 0))
for time in range(300):
    code = kernels.cubin("mask", "bool", (9, 0))
    assert code[64:] == code[64:72] * 100_000, len(code)
    if time % 5 == 0 and time < 299:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
"""
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run_python, [code] * 3))
    assert set(files(folder)) <= {kernels.cubin_path(*MASK)}


def test_carried_cubins_need_no_compiler(folder, tmp_path):
    cubin = kernels.cubin(*MASK)
    carried = folder.rename(tmp_path / "carried")
    before = {path: path.stat().st_mtime_ns for path in files(carried)}
    code = f"""
import sys
from pathlib import Path
sys.modules["numba_cuda"] = sys.modules["numba.cuda"] = None
from standin import Driver, load
driver = Driver(load(Path({str(build(tmp_path))!r})))
from fastdrop_kernels.cuda import launch
launch.run(launch.load("mask", "bool", 0), 0, 0, 0, 0, 0, 0, 0, 0.5)
print(driver.launches[0].function, driver.launches[0].image.hex())
try:
    launch.load("mask", "bool", 1)
except ImportError as error:
    print(error)
"""
    out = run_python(code, FASTDROP_CACHE_DIR=str(carried)).splitlines()
    assert out[0] == f"fastdrop_mask_bool {cubin.hex()}"
    assert "numba" in out[1] and "pip install" in out[1], "of the other architecture there is none"
    assert {path: path.stat().st_mtime_ns for path in files(carried)} == before


def test_folders_are_those_of_their_sources(tmp_path, monkeypatch):
    sources = tmp_path / "sources"
    shutil.copytree(Path(cache.__file__).parent, sources, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(kernels, "digest", inspect.unwrap(cache.digest))  # which remembers
    here = kernels.cache_folder()
    monkeypatch.setattr(cache, "__file__", str(sources / "cache.py"))
    assert kernels.cache_folder() == here, "wherever they lie"

    def change(file: str) -> Path:
        with open(sources / file, "a") as opened:
            opened.write("# changed\n")
        return kernels.cache_folder()

    assert change("cpu/blocks.py") == change("cpu/new.py") == change("py.typed") == here
    changed = [change(file) for file in ("cuda/tiles.py", "cuda/elements/byte.py", "stream.py", "formulas/mask.py")]
    assert len({here, *changed}) == 5
