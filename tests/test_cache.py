"""Compiled code on disk: found by the next process, never by the wrong one, and not needed."""

import json

import pytest
from processes import run_python

WARM = """
import json, torch, fastdrop
from fastdrop_kernels.cpu import compiler, kernels, launch
torch.set_num_threads(2)
fastdrop.warmup()
fastdrop.functional.dropout(torch.ones(100_000), 0.5, seed=1)
hits = {name: callback.cache_hits for name, callback in compiler._callbacks.items()}
entries = {"run": launch.run, "run_parallel": launch.run_parallel}
hits |= {name: sum(entry.stats.cache_hits.values()) for name, entry in entries.items()}
print(json.dumps(hits))
"""


def test_second_process_compiles_nothing(tmp_path):
    first = json.loads(run_python(WARM, FASTDROP_CACHE_DIR=str(tmp_path)))
    assert len(first) == 8 and set(first.values()) == {0}, first
    files = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    second = json.loads(run_python(WARM, FASTDROP_CACHE_DIR=str(tmp_path)))
    assert set(second.values()) == {1}, second
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == files


def test_every_kernel_has_an_index_of_its_own(tmp_path):
    run_python(WARM, FASTDROP_CACHE_DIR=str(tmp_path))
    indices, codes = list(tmp_path.rglob("*.nbi")), list(tmp_path.rglob("*.nbc"))
    assert len(indices) == len(codes) == 8
    for index in indices:
        assert len(list(index.parent.glob(f"{index.stem}.*.nbc"))) == 1, index.name


@pytest.mark.parametrize("folder", ["/proc/nowhere", "{file}"])
def test_works_where_nothing_can_be_kept(tmp_path, folder):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    code = """
import torch, fastdrop
from fastdrop_kernels.cpu.compiler import cache_folder
print(cache_folder(), fastdrop.functional.dropout(torch.ones(8), 0.5, seed=0).tolist())
"""
    out = run_python(code, FASTDROP_CACHE_DIR=folder.format(file=blocked))
    assert out == "None [2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]"
    assert blocked.read_text() == "not a folder"


def test_import_compiles_nothing_and_warmup_does(tmp_path):
    code = """
import torch
from numba.core import event
with event.install_recorder("numba:compile") as compiled:
    import fastdrop
    at_import = len(compiled.buffer)
    fastdrop.warmup([torch.float32])
print(at_import, len(compiled.buffer) > 0)
"""
    assert run_python(code, FASTDROP_CACHE_DIR=str(tmp_path)) == "0 True"


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
from fastdrop import _cpu
from fastdrop_kernels.cpu.pages import HUGE_FROM
asked = []
advise = _cpu.prefer_huge_pages
_cpu.prefer_huge_pages = lambda address, size: asked.append(advise(address, size))
for n in (HUGE_FROM // 4 - 1, HUGE_FROM // 4):
    y = fastdrop.functional.dropout(torch.ones(n), 0.25, seed=3)
    assert torch.equal(y != 0, fastdrop.dropout_mask(n, 0.25, seed=3))
print(len(asked))
"""
    assert run_python(code) == "1"
