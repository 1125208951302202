"""What is read from the cache is the user's own and whole; what is written there is nobody else's."""

import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from fastdrop_kernels import cache

CODE = bytes(range(256)) * 3
PLACE = "some-version", "kernel.code"
OTHER_USER = 12345

pytestmark = pytest.mark.skipif(os.name != "posix", reason="other systems have other users and modes")


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have a cache of its own, and return its folder."""
    monkeypatch.setenv("FASTDROP_CACHE_DIR", str(tmp_path / "chosen"))
    return tmp_path / "chosen" / "fastdrop"


@pytest.fixture
def file(base: Path) -> Path:
    """Return the path of the code that is kept."""
    cache.write(*PLACE, CODE)
    return base / PLACE[0] / PLACE[1]


def test_what_is_written_is_read(file):
    assert cache.read(*PLACE) == CODE
    assert cache.read(PLACE[0], "another") is None
    assert cache.read("another", PLACE[1]) is None
    assert [path.name for path in file.parent.iterdir()] == [PLACE[1]]


@pytest.mark.parametrize("umask", [0, 0o002, 0o077])
def test_only_the_user_may_read_and_write(base, umask):
    before = os.umask(umask)
    try:
        cache.write(*PLACE, CODE)
    finally:
        os.umask(before)
    folder = base / PLACE[0]
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (base.parent, base, folder, folder / PLACE[1])]
    assert modes == [0o700, 0o700, 0o700, 0o600]
    assert cache.read(*PLACE) == CODE


def test_every_flipped_bit_is_seen(file):
    whole = file.read_bytes()
    for bit in range(0, 8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        file.write_bytes(changed)
        with pytest.raises(OSError, match="damaged"):
            cache.read(*PLACE)


def test_every_other_size_is_seen(file):
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        with pytest.raises(OSError, match=str(file)):
            cache.read(*PLACE)
    file.write_bytes(whole + b"\0")
    with pytest.raises(OSError, match="damaged"):
        cache.read(*PLACE)


@pytest.mark.parametrize("other", [(PLACE[0], "other.code"), ("other-version", PLACE[1])])
def test_a_file_does_not_pass_for_another(file, base, other):
    target = base / other[0] / other[1]
    target.parent.mkdir(mode=0o700, exist_ok=True)
    file.rename(target)
    with pytest.raises(OSError, match="damaged"):
        cache.read(*other)


def is_refused(place: Path) -> bool:
    """Return whether nothing is read, with an error that names the place."""
    with pytest.raises(OSError, match=str(place)):
        cache.read(*PLACE)
    return True


def test_others_who_may_write(file):
    for place in (file.parent.parent, file.parent, file):
        before = stat.S_IMODE(place.stat().st_mode)
        for others in (0o020, 0o002, 0o1022):
            place.chmod(before | others)
            assert is_refused(place)
        place.chmod(before | 0o055 if place.is_dir() else 0o644)
        assert cache.read(*PLACE) == CODE, "others may read"


def test_folders_of_others_are_not_written_to(file):
    for place in (file.parent.parent, file.parent):
        place.chmod(0o777)
        with pytest.raises(OSError, match=str(place)):
            cache.write("some-version", "another.code", CODE)
        place.chmod(0o700)
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="only root can give files away")
def test_folders_and_files_of_other_users(file):
    for place in (file.parent.parent, file.parent, file):
        os.chown(place, OTHER_USER, -1)
        assert is_refused(place)
        os.chown(place, 0, -1)
    assert cache.read(*PLACE) == CODE


def test_another_effective_user(file, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: OTHER_USER)
    assert is_refused(file.parent.parent)
    with pytest.raises(OSError, match="belongs to"):
        cache.write(*PLACE, CODE)


def test_symbolic_links_are_not_followed(file):
    for place in (file, file.parent, file.parent.parent):
        elsewhere = place.with_name("elsewhere")
        place.rename(elsewhere)
        place.symlink_to(elsewhere)
        assert is_refused(place)
        if place != file:
            with pytest.raises(OSError, match=str(place)):
                cache.write(*PLACE, CODE)
        place.unlink()
        elsewhere.rename(place)
    assert cache.read(*PLACE) == CODE


def test_a_link_in_a_files_place_is_replaced(file, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    file.unlink()
    file.symlink_to(victim)
    cache.write(*PLACE, CODE)
    assert victim.read_bytes() == b"precious"
    assert not file.is_symlink() and cache.read(*PLACE) == CODE


def test_the_folder_above_may_be_a_link(base, tmp_path, monkeypatch):
    (tmp_path / "large disk").mkdir()
    base.parent.symlink_to(tmp_path / "large disk")
    cache.write(*PLACE, CODE)
    assert cache.read(*PLACE) == CODE
    assert (tmp_path / "large disk" / "fastdrop").is_dir()


def test_files_being_written_cannot_be_foreseen(file, monkeypatch):
    opened: list[tuple[Any, int]] = []
    original = os.open
    monkeypatch.setattr(
        os, "open", lambda path, flags, *more, **named: opened.append((path, flags)) or original(path, flags, *more)
    )
    for _ in range(2):
        cache.write(*PLACE, CODE)
    assert len({path for path, _ in opened}) == 2
    assert all(flags & os.O_EXCL and flags & os.O_NOFOLLOW for _, flags in opened)
    for path, _ in opened:
        assert str(os.getpid()) not in path and str(threading.get_ident()) not in path


def test_home(tmp_path, monkeypatch):
    monkeypatch.delenv("FASTDROP_CACHE_DIR")
    monkeypatch.setattr(cache.numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(cache.sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    at_home = tmp_path / ".cache" / "fastdrop"
    for relative in ("", "relative", "./relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", relative)
        assert cache.user_cache_folder() == at_home
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.user_cache_folder() == tmp_path / "xdg" / "fastdrop"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(os, "geteuid", lambda: OTHER_USER)
    if tmp_path.stat().st_uid == 0:
        assert cache.user_cache_folder() == at_home, "root's, as in a container"
        os.chown(tmp_path, OTHER_USER + 1, -1)
    with pytest.raises(OSError, match="another user"):
        cache.user_cache_folder()
    for bad in ("", "relative", str(tmp_path / "missing")):
        monkeypatch.setenv("HOME", bad)
        with pytest.raises(OSError):
            cache.user_cache_folder()


def test_one_warning_a_process(monkeypatch):
    monkeypatch.setattr(cache, "_faults", [])

    def fail(times: int) -> None:
        for _ in range(times):
            with cache.tolerated():
                raise OSError("disk full")

    with pytest.warns(RuntimeWarning, match="disk full") as warned:
        fail(3)
    assert len(warned) == 1 and "FASTDROP_CACHE_DIR" in str(warned[0].message)
