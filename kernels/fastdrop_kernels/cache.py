"""The cache of compiled code on disk: in the user's cache folder, in subfolders named by what the code depends on.

The folder of the sources, which Numba would use, may not be writable, and ``pip uninstall`` would leave files behind.

What is read here is executed. So it must be the user's own: folders and files belong to the effective user, nobody else
can write to them, no symbolic link to them is followed, and a file ends with a checksum of its name and content. The
cache is an optimization: if anything fails, code is compiled as if there were none.
"""

import contextlib
import functools
import hashlib
import os
import pathlib
import stat
import sys
import tempfile
import warnings
from collections.abc import Iterator
from typing import Final

import numba

SEAL: Final = 32  # bytes of a checksum
NO_LINK: Final[int] = getattr(os, "O_NOFOLLOW", 0)  # Windows has none


def user_cache_folder() -> pathlib.Path:
    """Return where compiled kernels go: FASTDROP_CACHE_DIR, else NUMBA_CACHE_DIR, else the user's cache folder."""
    chosen = os.environ.get("FASTDROP_CACHE_DIR") or numba.config.CACHE_DIR
    return pathlib.Path(chosen, "fastdrop") if chosen else _default_folder() / "fastdrop"


def _default_folder() -> pathlib.Path:
    home = pathlib.Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        return pathlib.Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    named = os.environ.get("XDG_CACHE_HOME", "")
    if sys.platform != "darwin" and os.path.isabs(named):  # a relative one is to be ignored, its specification says
        return pathlib.Path(named)
    if os.environ.get("HOME") == "" or not home.is_absolute():
        raise OSError("there is no home folder: HOME has to be an absolute path")
    if home.stat().st_uid not in (0, os.geteuid()):  # as after sudo: root's files would bar the user from the folder
        raise PermissionError(f"{home} (HOME) belongs to another user")
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache")


@functools.cache
def digest(without: str, *more: str) -> str:
    """Return a digest of these sources without one subfolder (the other device's), and of what else is given."""
    root = pathlib.Path(__file__).parent
    sources = [path for path in sorted(root.rglob("*.py")) if path.relative_to(root).parts[0] != without]
    identity = [*(path.read_bytes() for path in sources), *(text.encode() for text in more)]
    return hashlib.sha256(b"\0".join(identity)).hexdigest()[:16]


def checked(subfolder: str) -> pathlib.Path:
    """Return a subfolder of the user's cache folder; OSError where it must not be used, or is not there."""
    folder = user_cache_folder() / subfolder
    for place in (folder.parent, folder):  # no parents: a folder put in place of these would be noticed
        _check(place, place.lstat(), stat.S_IFDIR)
    return folder


def made(subfolder: str) -> pathlib.Path:
    """Return a subfolder of the user's cache folder, made if it is not there; OSError where it cannot be used."""
    folder = user_cache_folder() / subfolder
    try:
        for place in (*reversed(folder.parents), folder):
            if not place.is_dir():
                place.mkdir(mode=0o700, exist_ok=True)
    except OSError as fault:
        raise OSError(f"{folder} cannot be made: {fault}") from fault
    return checked(subfolder)


def read(subfolder: str, name: str) -> bytes | None:
    """Return the code that is kept under a name, None if there is none; OSError where it must not be used."""
    try:
        path = checked(subfolder) / name
        with open(path, "rb", opener=lambda path, flags: os.open(path, flags | NO_LINK)) as file:
            _check(path, os.fstat(file.fileno()), stat.S_IFREG)
            content = file.read()
    except FileNotFoundError:
        return None
    code = content[:-SEAL]
    if content[-SEAL:] != _seal(subfolder, name, code):
        raise OSError(f"{path} is damaged")
    return code


def write(subfolder: str, name: str, code: bytes) -> None:
    """Keep code under a name, in a file that is never seen half written; OSError where it cannot be kept."""
    path = made(subfolder) / name
    handle, partial = tempfile.mkstemp(dir=path.parent, suffix=".partial")  # private, with an unpredictable name
    try:
        with open(handle, "wb") as file:
            file.write(code + _seal(subfolder, name, code))
        os.replace(partial, path)
    except OSError as fault:
        raise OSError(f"{path} cannot be written: {fault}") from fault
    finally:
        with contextlib.suppress(OSError):
            os.unlink(partial)  # it no longer exists after a success


@contextlib.contextmanager
def tolerated() -> Iterator[None]:
    """Continue without the cache where using it raises, with one warning per process."""
    try:
        yield
    except Exception as fault:
        _warn_once(fault)


def _seal(subfolder: str, name: str, code: bytes) -> bytes:
    """Return the checksum of a file, which is also one of its name, so that no other file passes for it."""
    return hashlib.sha256(f"{subfolder}/{name}\0".encode() + code).digest()


def _check(path: pathlib.Path, status: os.stat_result, kind: int) -> None:
    """Raise where others could have written what is read here, or where it is not of the expected kind."""
    if stat.S_IFMT(status.st_mode) != kind:
        raise PermissionError(f"{path} is no {'folder' if kind == stat.S_IFDIR else 'file'}, or a symbolic link")
    if os.name != "posix":
        return  # the system protects the user's profile, where it lies
    if status.st_uid != os.geteuid():
        raise PermissionError(f"{path} belongs to user {status.st_uid}, and this is user {os.geteuid()}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"{path} can be written by other users")


_faults: Final[list[Exception]] = []


def _warn_once(fault: Exception) -> None:
    if _faults:
        return
    _faults.append(fault)
    warnings.warn(
        f"fastdrop compiles anew what it cannot take from its cache, or keep there: {fault or type(fault).__name__}. "
        "FASTDROP_CACHE_DIR names another folder.",
        RuntimeWarning,
        stacklevel=2,
    )
