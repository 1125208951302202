"""A cache that is damaged, full, foreign or missing costs time and a warning, and nothing else."""

import errno
import os
import pickle
import resource
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from mask_reference import keep_mask
from numba.core import event
from processes import in_new_process

import fastdrop

pytestmark = pytest.mark.skipif(os.name != "posix", reason="other systems have other users, modes and limits")
ROOT = os.name == "posix" and os.geteuid() == 0
NOBODY = 65534
SLOW = pytest.mark.slow


class Result(NamedTuple):
    """Whether masks are right, what was said, and how many functions were compiled."""

    right: bool
    warnings: list[str]
    compiled: int


def drop(folder: Path, prepare: Callable[[], Any] = int) -> Result:
    """Drop in this process, with its cache there; say whether the mask is right, what is told, how much is compiled."""
    os.environ["FASTDROP_CACHE_DIR"] = str(folder)
    return drop_here(prepare)


def drop_here(prepare: Callable[[], Any] = int) -> Result:
    prepare()
    with warnings.catch_warnings(record=True) as caught, event.install_recorder("numba:compile") as compiled:
        warnings.simplefilter("always")
        for _ in range(2):
            kept = fastdrop.functional.dropout(torch.ones(5000), 0.5, seed=11) == 2
    right = bool(np.array_equal(kept.numpy(), keep_mask(np.arange(5000), 0.5, seed=11)))
    return Result(right, [str(warning.message) for warning in caught], len(compiled.buffer))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache that has what `drop` needs."""
    folder = tmp_path_factory.mktemp("filled")
    cold = in_new_process(drop, folder)
    assert cold.right and cold.compiled and not cold.warnings, "that it is cold is no fault"
    return folder


@pytest.fixture
def cache(filled: Path, tmp_path: Path) -> Path:
    """Return a copy of it."""
    return Path(shutil.copytree(filled, tmp_path / "cache"))


def test_a_full_cache_is_enough(cache):
    assert in_new_process(drop, cache) == Result(True, [], 0)


def flipped(content: bytes, at: float) -> bytes:
    where = int(at * (len(content) - 1))
    return content[:where] + bytes([content[where] ^ 1 << where % 8]) + content[where + 1 :]


DAMAGES = {
    "empty": lambda content: b"",
    "cut off": lambda content: content[: len(content) // 2],
    "garbage": lambda content: bytes(range(256)) * 40,
    "a pickle": lambda content: pickle.dumps("something else"),
    "tail of zeros": lambda content: content[:-4096] + bytes(4096),
    **{f"bit at {at}": lambda content, at=at: flipped(content, at) for at in (0.0, 0.3, 0.8)},
}


@pytest.mark.parametrize("first", range(0, len(DAMAGES), 2))
@pytest.mark.sampled(2)
def test_damaged_files_are_replaced(cache, first):
    """Each file in another way; how every damage of one file is found out, test_cache_files says."""
    kinds = list(DAMAGES.values())[first:]
    assert len(files(cache)) == 2
    for damage, path in zip(kinds, files(cache), strict=False):
        path.write_bytes(damage(path.read_bytes()))
    first = in_new_process(drop, cache)
    assert first.right and len(first.warnings) == 1 and first.compiled
    assert str(cache) in first.warnings[0]
    assert in_new_process(drop, cache) == Result(True, [], 0)


def test_files_in_each_others_place_are_damaged(cache):
    first, second, *_ = (path for path in files(cache) if path.suffix != ".nbi")
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    result = in_new_process(drop, cache)
    assert result.right and len(result.warnings) == 1
    assert in_new_process(drop, cache) == Result(True, [], 0)


def test_files_that_cannot_be_read_or_replaced(cache):
    for path in files(cache):
        path.unlink()
        path.mkdir()
    result = in_new_process(drop, cache)
    assert result.right and len(result.warnings) == 1


def no_space_for_content() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def no_space_for_names() -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    os.mkdir = fail  # type: ignore[assignment]


def replace_fails() -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    os.replace = fail  # type: ignore[assignment]


@pytest.mark.parametrize("prepare", [no_space_for_content, no_space_for_names, replace_fails])
@pytest.mark.sampled(3)
def test_full_and_broken_disks(tmp_path, prepare):
    result = in_new_process(drop, tmp_path, prepare)
    assert result.right and len(result.warnings) == 1
    assert files(tmp_path) == [], "nothing half written is left"


def unset_home() -> None:
    for name in ("FASTDROP_CACHE_DIR", "XDG_CACHE_HOME"):
        os.environ.pop(name, None)
    os.environ["HOME"] = "/proc/nowhere"


def empty_home() -> None:
    unset_home()
    os.environ["HOME"] = ""


def relative_home() -> None:
    unset_home()
    os.environ["HOME"] = "home"


@pytest.mark.parametrize("prepare", [unset_home, *(pytest.param(f, marks=SLOW) for f in (empty_home, relative_home))])
def test_no_home(tmp_path, prepare, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = in_new_process(drop_here, prepare)
    assert result.right and len(result.warnings) == 1 and result.compiled
    assert not files(tmp_path) and not Path("/.cache/fastdrop").exists()


def become_nobody() -> None:
    os.seteuid(NOBODY)


@pytest.mark.skipif(not ROOT, reason="only root can take another user's place")
@pytest.mark.parametrize("mode", [0o700, 0o755])
@pytest.mark.sampled(2)
def test_what_root_has_filled_is_not_another_users(cache, mode):
    for path in cache.rglob("*"):
        path.chmod(mode)
    for folder in (cache, *cache.parents):
        if folder.stat().st_uid == 0 and str(folder).startswith(str(cache.parent.parent.parent)):
            folder.chmod(0o755)
    result = in_new_process(drop, cache, become_nobody)
    assert result.right and len(result.warnings) == 1 and result.compiled


class Planted:
    """Makes a file where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return Path.touch, (self.marker,)


def test_planted_code_is_not_run(cache, tmp_path):
    for path in files(cache):
        path.write_bytes(pickle.dumps(Planted(tmp_path / "run")))
        path.parent.chmod(0o1777)
    result = in_new_process(drop, cache)
    assert result.right and len(result.warnings) == 1
    assert not (tmp_path / "run").exists()


def change_what_is_kept() -> None:
    from numba.core.compiler import CompileResult

    del CompileResult._reduce


def change_what_is_loaded() -> None:
    from numba.core.compiler import CompileResult

    del CompileResult._rebuild


def test_a_numba_that_cannot_keep_code(tmp_path):
    result = in_new_process(drop, tmp_path, change_what_is_kept)
    assert result.right and len(result.warnings) == 1
    assert files(tmp_path) == []


def test_a_numba_that_cannot_load_code(cache):
    result = in_new_process(drop, cache, change_what_is_loaded)
    assert result.right and len(result.warnings) == 1 and result.compiled
