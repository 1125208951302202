"""Compiled code on disk: found by the next process, never by the wrong one, and not needed."""

import enum
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from mask_reference import keep_mask
from numba import types
from processes import run_python

import fastdrop
from fastdrop_kernels.cpu import dilate, launch
from fastdrop_kernels.cpu.code_cache import CodeCache

WARM = """
import json, torch
from numba.core import event
with event.install_recorder("numba:compile") as compiled:
    import fastdrop
    at_import = len(compiled.buffer)
    fastdrop.warmup([torch.float32, torch.float16])
    by_warmup = len(compiled.buffer)
from fastdrop_kernels.cpu import compiler, launch
torch.set_num_threads(2)
fastdrop.functional.dropout(torch.ones(100_000), 0.5, seed=1)
hits = {name: callback.cache_hits for name, callback in compiler._callbacks.items()}
entries = {"run_serial": launch.run_serial, "run_parallel": launch.run_parallel}
hits |= {name: sum(entry.stats.cache_hits.values()) for name, entry in entries.items()}
print(json.dumps([at_import, by_warmup, hits]))
"""


class Cold(NamedTuple):
    """A cache that a process has filled which found it empty, and what it compiled."""

    folder: Path
    at_import: int
    by_warmup: int
    hits: dict[str, int]  # of what it uses, how much it took from the cache


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> Cold:
    folder = tmp_path_factory.mktemp("cold")
    return Cold(folder, *json.loads(run_python(WARM, FASTDROP_CACHE_DIR=str(folder))))


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_import_compiles_nothing_and_warmup_does(cold):
    assert cold.at_import == 0 < cold.by_warmup


def test_second_process_compiles_nothing(cold):
    assert len(cold.hits) == 6 and set(cold.hits.values()) == {0}, cold
    before = files(cold.folder)
    at_import, by_warmup, hits = json.loads(run_python(WARM, FASTDROP_CACHE_DIR=str(cold.folder)))
    assert at_import == by_warmup == 0
    assert hits == dict.fromkeys(cold.hits, 1)
    assert files(cold.folder) == before


def test_every_function_and_signature_has_a_file_of_its_own(cold):
    """So two processes that write at once write different files, or the same content."""
    assert sorted(path.name.rsplit("-", 1)[0] for path in files(cold.folder)) == sorted(cold.hits)
    code = CodeCache("run_serial")
    assert code.file((types.int64,)) != code.file((types.boolean,)) != CodeCache("go").file((types.boolean,))


NUMBER = enum.IntEnum("Number", "ONE TWO")
INTEGERS = [True, NUMBER.TWO, np.int8(3), np.uint8(200), np.int64(2**40), np.uint64(2**63 + 5)]


@pytest.mark.parametrize("value", INTEGERS, ids=repr)
@pytest.mark.parametrize("size", [100, 100_000])
def test_compiled_code_sees_one_kind_of_integer(value, size):
    """Of another kind, Numba would make another overload, of which two processes could take each other's."""
    x = torch.ones(size)
    expected = keep_mask(np.arange(size), 0.5, seed=int(value), offset=int(value))
    kept = fastdrop.functional.dropout(x, 0.5, seed=value, offset=value) != 0
    assert np.array_equal(kept.numpy(), expected)
    drop_path = fastdrop.functional.drop_path(x.view(10, -1), 0.5, True, seed=value, offset=value)
    assert np.array_equal(drop_path[:, 0].numpy() != 0, expected[:10])
    assert torch.equal(fastdrop.dropout_mask(size, 0.5, seed=value, offset=value), kept)
    fastdrop.functional.drop_block2d(x.view(1, 1, 10, -1), np.float32(0.5), np.int16(3), seed=value, offset=value)
    for entry in (launch.run_serial, launch.run_parallel, dilate.dilate_blocks):
        assert len(entry.signatures) <= 1, entry.signatures


USERS = """
import sys, numba, torch
from numba.core import event
sys.path.insert(0, {folder!r})

class Decorate(event.Listener):
    places = []
    def on_start(self, event):
        import users
        self.places.append(users.decorated().stats.cache_path)
    def on_end(self, event):
        pass

event.register("numba:compile", Decorate())
import fastdrop
fastdrop.functional.dropout(torch.ones(8), 0.5, seed=0)
from users import decorated
print(len(Decorate.places) > 2 and set(Decorate.places) == {{decorated().stats.cache_path}})
"""


def test_functions_of_others_are_kept_where_they_belong(tmp_path):
    """Also those that are decorated while ours are compiled, by other threads for example."""
    (tmp_path / "users.py").write_text(
        "import numba\ndef f(x):\n    return x + 1\ndef decorated():\n    return numba.njit(cache=True)(f)\n"
    )
    assert run_python(USERS.format(folder=str(tmp_path)), FASTDROP_CACHE_DIR=str(tmp_path / "ours")) == "True"


@pytest.mark.parametrize("folder", ["/proc/nowhere", "{file}"])
@pytest.mark.sampled(2)
def test_works_where_nothing_can_be_kept(tmp_path, folder):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    code = """
import torch, fastdrop
print(fastdrop.functional.dropout(torch.ones(8), 0.5, seed=0).tolist())
"""
    out = run_python(code, FASTDROP_CACHE_DIR=folder.format(file=blocked))
    assert out == "[2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]"
    assert blocked.read_text() == "not a folder"


def test_numbas_own_settings_are_left_alone():
    code = """
import numba
before = numba.config.CACHE_DIR
import torch, fastdrop
fastdrop.warmup([torch.float32])
print(numba.config.CACHE_DIR == before)
"""
    assert run_python(code) == "True"


def test_switched_off_compiler_is_named():
    code = """
import torch, fastdrop
try:
    fastdrop.functional.dropout(torch.ones(8), 0.5)
except RuntimeError as error:
    print(error)
"""
    assert "NUMBA_DISABLE_JIT" in run_python(code, NUMBA_DISABLE_JIT="1")


def test_huge_outputs_take_huge_pages_and_are_right():
    code = """
import numpy as np, torch, fastdrop
from fastdrop._devices import cpu
from fastdrop_kernels.cpu.pages import HUGE_FROM
asked = []
advise = cpu.prefer_huge_pages
cpu.prefer_huge_pages = lambda address, size: asked.append(advise(address, size))
for n in (HUGE_FROM // 4 - 1, HUGE_FROM // 4):
    y = fastdrop.functional.dropout(torch.ones(n), 0.25, seed=3)
    assert torch.equal(y != 0, fastdrop.dropout_mask(n, 0.25, seed=3))
print(len(asked))
"""
    assert run_python(code) == "1"
