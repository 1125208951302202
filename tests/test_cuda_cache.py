"""Cubins on disk: made once, carried to where no compiler is, replaced if broken; what is said of missing packages."""

import contextlib
import inspect
import os
import re
import shutil
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from processes import run_python

pytest.importorskip("numba_cuda")
pytest.importorskip("cuda.core")

from fake_torch_cuda import torch_cuda
from standin import Driver, build

from fastdrop import _cuda
from fastdrop_kernels import cache
from fastdrop_kernels.cuda import compiler, kernels, packages

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


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no package looked up yet."""
    for name in ("core", "cuda"):
        monkeypatch.delitem(vars(packages), name, raising=False)


def says(what: str) -> Any:
    """Expect an error that says what is wrong and how to install it."""
    return pytest.raises(ImportError, match=f"{what}.*{re.escape(packages.INSTALL)}")


def test_packages_that_are_there_are_found(forgotten):
    assert callable(packages.core.launch) and callable(packages.cuda.compile_ptx)
    assert {"core", "cuda"} <= set(vars(packages)), "and not looked up again"
    with pytest.raises(AttributeError, match="'fastdrop_kernels.cuda.packages' has no attribute 'other'"):
        packages.other  # noqa: B018


def test_cuda_core_missing(forgotten, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with says("need cuda-core and cuda-bindings, but: .*cuda.core"):
        packages.core  # noqa: B018


def test_cuda_bindings_missing(tmp_path):
    """A plain `pip install cuda-core` brings none."""
    (tmp_path / "core").symlink_to(metadata.distribution("cuda-core").locate_file("cuda/core"))
    code = f"""
import cuda
cuda.__path__ = [{str(tmp_path)!r}]
from fastdrop_kernels.cuda import packages
try:
    packages.core
except ImportError as error:
    print(error)
"""
    out = run_python(code)
    assert "bindings" in out and packages.INSTALL in out


def test_older_cuda_core_has_it_elsewhere(forgotten, monkeypatch):
    older = types.ModuleType("cuda.core.experimental")
    monkeypatch.setitem(sys.modules, "cuda.core", types.ModuleType("cuda.core"))
    monkeypatch.setitem(sys.modules, "cuda.core.experimental", older)
    assert packages.core is older


TOO_OLD = "needs numba-cuda 0.22 or later, but got "
VERSIONS = {
    "": "which is not installed",
    "0.21.1": f"{TOO_OLD}0.21.1",
    "0.9.0": f"{TOO_OLD}0.9.0",
    "0.22.0": "",
    "1.0": "",
}


@pytest.mark.parametrize(("version", "error"), VERSIONS.items())
def test_numba_cuda_missing_or_too_old(forgotten, monkeypatch, version, error):
    def version_of(name: str) -> str:
        if not version:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(metadata, "version", version_of)
    with says(error) if error else contextlib.nullcontext():
        assert callable(packages.cuda.compile_ptx)


@pytest.mark.parametrize("error", [AttributeError("no 'x'"), ImportError("no 'y'"), TypeError("z")])
def test_numba_cuda_that_does_not_fit_numba(forgotten, monkeypatch, error):
    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr(packages.importlib, "import_module", fail)
    versions = [re.escape(metadata.version(name)) for name in ("numba-cuda", "numba")]
    with says(f"numba-cuda {versions[0]} does not work with numba {versions[1]}: {re.escape(repr(error))}"):
        packages.cuda  # noqa: B018


def test_users_are_told_once_what_to_install(forgotten, driver: Driver, monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    monkeypatch.delitem(sys.modules, "fastdrop_kernels.cuda.launch")
    with torch_cuda(), pytest.warns(RuntimeWarning, match="native torch: ImportError: .*pip install") as warned:
        monkeypatch.delattr("fastdrop_kernels.cuda.launch")
        assert [_cuda.is_ready(dtype, 0) for dtype in ("float32", "bool", "float32")] == [False] * 3
    assert len(warned) == 1


@pytest.fixture(scope="module")
def told_of_an_old_driver(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return what a process warns of whose driver is for CUDA 11.8."""
    code = f"""
import warnings
from pathlib import Path
from standin import Driver, load
driver = Driver(load(Path({str(build(tmp_path_factory.mktemp("old")))!r})))
driver.set_version(11080)
from fake_torch_cuda import torch_cuda
from fastdrop import _cuda
with torch_cuda(), warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    assert [_cuda.is_ready(dtype, 0) for dtype in ("float32", "bool", "float32")] == [False] * 3
print(*(each.message for each in warned if each.category is RuntimeWarning), sep="\\n")
"""
    return run_python(code)


def test_a_driver_too_old_is_warned_of_once(told_of_an_old_driver):
    assert told_of_an_old_driver.count("\n") == 0
    assert told_of_an_old_driver.startswith("fastdrop leaves CUDA tensors to native torch: ")


def test_a_driver_too_old_is_named(told_of_an_old_driver):
    assert re.search("driver.* 11[.]8", told_of_an_old_driver)
