"""Cubins on disk: made once, carried to where no compiler is, replaced if broken."""

import hashlib
import inspect
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from processes import run_python

from fastdrop_kernels.names import KERNELS

pytest.importorskip("numba_cuda")
pytest.importorskip("cuda.core")

from standin import build

from fastdrop_kernels import cache
from fastdrop_kernels.cuda import compiler, cubins

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
    monkeypatch.setattr(cubins, "ptx", lambda *kernel: "PTX")
    monkeypatch.setattr(compiler, "link", lambda ptx, arch: archs.append(arch) or LINKED)
    return archs


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def cubin_path(name: str, dtype: str, capability: cubins.Capability) -> Path:
    """Return where a kernel's cubin is kept."""
    return cache.user_cache_folder() / cubins.subfolder() / cubins.cubin_name(name, dtype, capability)


def kept(name: str, dtype: str, capability: cubins.Capability) -> bytes | None:
    """Return the cubin that the cache has."""
    return cache.read(cubins.subfolder(), cubins.cubin_name(name, dtype, capability))


def test_each_kernel_and_architecture_is_compiled_once(linked, folder):
    asked = [(*kernel, capability) for kernel in KERNELS for capability in ((8, 0), (9, 0), (12, 1))]
    for _ in range(2):
        assert {cubins.cubin(*kernel) for kernel in asked} == {LINKED}
        assert linked == ["sm_80", "sm_90", "sm_121"] * len(KERNELS)
    assert sorted(files(folder)) == sorted({cubin_path(*kernel) for kernel in asked})
    assert len(files(folder)) == len(asked)


TABLE_BEYOND = b"\x7fELF" + bytes(36) + (1000).to_bytes(8, "little") + bytes(16)


@pytest.fixture
def one_warning(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Expect a warning about the cache, as the first of the process."""
    monkeypatch.setattr(cache, "_faults", [])
    with pytest.warns(RuntimeWarning, match="cache") as warned:
        yield
    assert len(warned) == 1


@pytest.mark.usefixtures("one_warning")
@pytest.mark.parametrize("content", [b"", b"\x7fEL", b"no cubin", TABLE_BEYOND, bytes(5000)], ids=len)
def test_what_is_no_cubin_is_replaced(linked, content):
    cubins.cubin(*MASK)
    cubin_path(*MASK).write_bytes(content)
    assert cubins.cubin(*MASK) == kept(*MASK) == LINKED
    assert linked == ["sm_90"] * 2


@pytest.mark.usefixtures("one_warning")
def test_a_cubin_that_was_damaged_is_replaced():
    """Cut off, the driver would read on behind it; zeros or another bit it would run."""
    whole = cubins.cubin(*MASK)
    path = cubin_path(*MASK)
    content = path.read_bytes()
    cut = [content[:size] for size in (10, 64, len(whole) // 2, len(whole) - 1, len(whole))]
    zeros = [content[:-size] + bytes(size) for size in (1, 512, 2048)]
    flips = [
        content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :] for at in (100, len(whole) // 2, len(whole) - 9)
    ]
    for damaged in (*cut, *zeros, *flips):
        path.write_bytes(damaged)
        assert cubins.cubin(*MASK) == kept(*MASK) == whole


def test_a_file_is_a_cubin_that_tools_read(linked):
    """Its checksum stands at its end, where nobody looks for anything."""
    cubins.cubin(*MASK)
    content = cubin_path(*MASK).read_bytes()
    assert content[: len(LINKED)] == LINKED and len(content) == len(LINKED) + hashlib.sha256().digest_size


@pytest.mark.parametrize("place", ["/proc/nowhere", "{file}", "{file}/below"])
@pytest.mark.usefixtures("one_warning")
def test_works_where_nothing_can_be_kept(linked, tmp_path, monkeypatch, place):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("FASTDROP_CACHE_DIR", place.format(file=blocked))
    assert [cubins.cubin(*MASK) for _ in range(2)] == [LINKED] * 2
    assert len(linked) == 2
    assert files(tmp_path) == [blocked]


@pytest.mark.usefixtures("one_warning")
def test_works_without_a_home_folder(linked, monkeypatch):
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as it does where there is none
    monkeypatch.setattr(cache.numba.config, "CACHE_DIR", "")
    for name in ("FASTDROP_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    assert cubins.cubin(*MASK) == LINKED


@pytest.mark.usefixtures("one_warning")
def test_a_folder_that_may_only_be_read_is_used(linked, monkeypatch):
    cubins.cubin(*MASK)
    cubin_path(*MASK).chmod(0o444)
    cubin_path(*MASK).parent.chmod(0o555)
    monkeypatch.setattr(tempfile, "mkstemp", forbidden)  # root may write there
    assert cubins.cubin(*MASK) == cubins.cubin("mask", "bool", (8, 0)) == LINKED
    assert linked == ["sm_90", "sm_80"]


def forbidden(*_: Any, **__: Any) -> None:
    raise PermissionError("read-only")


@pytest.mark.usefixtures("one_warning")
def test_what_others_may_have_written_is_not_used(linked):
    """Whoever runs kernels fills the cache, or a copy that is made theirs."""
    cubins.cubin(*MASK)
    cubin_path(*MASK).parent.chmod(0o1777)
    assert [cubins.cubin(*MASK) for _ in range(2)] == [LINKED] * 2
    assert linked == ["sm_90"] * 3


@pytest.mark.usefixtures("one_warning")
def test_a_failed_write_leaves_nothing(linked, folder, monkeypatch):
    def fail(*paths: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    assert cubins.cubin(*MASK) == LINKED
    assert files(folder) == []


def test_processes_at_once_never_see_half_a_file(folder):
    """Each links, writes, reads and deletes again and again; each time another content, of one number."""
    code = """
import contextlib, itertools, os, sys, types
from fastdrop_kernels.cuda import cubins
number = itertools.count(os.getpid() << 20)
link = lambda ptx, arch: b"\x7fELF" + bytes(60) + next(number).to_bytes(8, "little") * 100_000
cubins.ptx = lambda *kernel: "PTX"
sys.modules["fastdrop_kernels.cuda.compiler"] = types.SimpleNamespace(link=link)
from fastdrop_kernels import cache
path = cache.user_cache_folder() / cubins.subfolder() / cubins.cubin_name("mask", "bool", (9, 0))
for time in range(300):
    code = cubins.cubin("mask", "bool", (9, 0))
    assert code[64:] == code[64:72] * 100_000, len(code)
    if time % 5 == 0 and time < 299:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
"""
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(run_python, [code] * 3))
    assert set(files(folder)) <= {cubin_path(*MASK)}


def test_carried_cubins_need_no_compiler(folder, tmp_path):
    cubin = cubins.cubin(*MASK)
    carried = folder.rename(tmp_path / "carried")
    before = {path: path.stat().st_mtime_ns for path in files(carried)}
    code = f"""
import sys
from pathlib import Path
sys.modules["numba_cuda"] = sys.modules["numba.cuda"] = None
from standin import Driver, load
driver = Driver(load(Path({str(build(tmp_path))!r})))
from fastdrop_kernels.cuda import launch
launch.enqueue(launch.load("mask", "bool", 0), 0, (0, 0, 0, 0, 0, 0, 0, 0, 0, 0.5, 0, 0))
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
    monkeypatch.setattr(cache, "digest", inspect.unwrap(cache.digest))  # which remembers
    here = cubins.subfolder()
    monkeypatch.setattr(cache, "__file__", str(sources / "cache.py"))
    assert cubins.subfolder() == here, "wherever they lie"

    def change(file: str) -> str:
        with open(sources / file, "a") as opened:
            opened.write("# changed\n")
        return cubins.subfolder()

    assert change("cpu/elementwise.py") == change("cpu/new.py") == change("py.typed") == here
    changed = [change(file) for file in ("cuda/elementwise.py", "cuda/dtypes/byte.py", "stream.py", "formulas/mask.py")]
    assert len({here, *changed}) == 5
