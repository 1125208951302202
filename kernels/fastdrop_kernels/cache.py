"""Where compiled code is kept between processes: in a folder of the user's, in subfolders that name what it depends on.

Beside the sources, where Numba would keep it, it might not be written, and ``pip uninstall`` would leave it behind.
"""

import functools
import hashlib
import os
import pathlib
import sys

import numba


def user_cache_folder() -> pathlib.Path:
    """Return where compiled kernels go: FASTDROP_CACHE_DIR, else NUMBA_CACHE_DIR, else the user's cache folder."""
    chosen = os.environ.get("FASTDROP_CACHE_DIR") or numba.config.CACHE_DIR
    if chosen:
        return pathlib.Path(chosen, "fastdrop")
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or pathlib.Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = pathlib.Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base, "fastdrop")


@functools.cache
def digest(without: str, *more: str) -> str:
    """Return a name for these sources, less one subfolder (the other device's), and for what else is given."""
    root = pathlib.Path(__file__).parent
    sources = [path for path in sorted(root.rglob("*.py")) if path.relative_to(root).parts[0] != without]
    identity = [*(path.read_bytes() for path in sources), *(text.encode() for text in more)]
    return hashlib.sha256(b"\0".join(identity)).hexdigest()[:16]


def writable_subfolder(name: str) -> pathlib.Path | None:
    """Return a subfolder of the user's cache folder, made and writable, or None where none can be had."""
    try:
        folder = user_cache_folder() / name
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        return None
    return folder if os.access(folder, os.W_OK) else None
