"""What is said where a package for CUDA is missing or too old, or the driver is."""

import contextlib
import re
import sys
import types
from importlib import metadata
from typing import Any

import pytest
from processes import run_python

pytest.importorskip("numba_cuda")
pytest.importorskip("cuda.core")

from fake_torch_cuda import torch_cuda
from standin import Driver, build

from fastdrop._devices import cuda
from fastdrop_kernels.cuda import packages


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
        assert [cuda.is_ready(dtype, 0) for dtype in ("float32", "bool", "float32")] == [False] * 3
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
from fastdrop._devices import cuda
with torch_cuda(), warnings.catch_warnings(record=True) as warned:
    warnings.simplefilter("always")
    assert [cuda.is_ready(dtype, 0) for dtype in ("float32", "bool", "float32")] == [False] * 3
print(*(each.message for each in warned if each.category is RuntimeWarning), sep="\\n")
"""
    return run_python(code)


def test_a_driver_too_old_is_warned_of_once(told_of_an_old_driver):
    assert told_of_an_old_driver.count("\n") == 0
    assert told_of_an_old_driver.startswith("fastdrop leaves CUDA tensors to native torch: ")


def test_a_driver_too_old_is_named(told_of_an_old_driver):
    assert re.search("driver.* 11[.]8", told_of_an_old_driver)
