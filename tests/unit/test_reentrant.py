"""Signal handlers that drop, install and uninstall, wherever they interrupt fastdrop at just that."""

import os
import threading
from types import SimpleNamespace

import pytest
import torch
from interrupts import codes, everywhere, interrupted
from processes import run_python

from fastdrop._keys import seeds as _seeds
from fastdrop_kernels.cpu import compiler, registry


def test_no_seed_is_drawn_twice():
    drawn, handled = [], []
    torch.manual_seed(3)
    seeds = [_seeds.draw() for _ in range(200)]
    torch.manual_seed(3)
    for _ in everywhere(lambda: drawn.append(_seeds.draw()), codes(_seeds.draw), lambda: handled.append(_seeds.draw())):
        assert sorted([*drawn[-1:], *handled[-1:]]) == sorted(seeds[:2])
        del seeds[:2]
    assert len(handled) > 10


def test_no_seed_of_a_gpus_generator_is_drawn_twice(monkeypatch):
    count = [0]
    generator = SimpleNamespace(
        get_offset=lambda: count[0],
        set_offset=lambda value: count.__setitem__(0, value),
        initial_seed=lambda: 7,
    )
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    drawn = []

    def draw() -> None:
        drawn.append(_seeds._draw_cuda(generator))

    def handler() -> None:
        draw()
        draw()

    thread = threading.Thread(  # a handler that waits for ever is not to stop the tests
        target=lambda: [None for _ in everywhere(draw, codes(_seeds._draw_cuda), handler)], daemon=True
    )
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert len(drawn) == len(set(drawn)) > 30


def test_one_callback_of_a_name_however_it_is_interrupted(monkeypatch):
    """Numba frees the code of a callback that nobody keeps; its address may be known."""
    monkeypatch.setattr(compiler, "_callbacks", {})
    known = []

    def compiled() -> None:
        known.append(registry.compiled("dropout", "float32"))

    def compile_all() -> None:
        for place in range(0, 100, 9):
            compiler._callbacks.clear()
            known.clear()
            if not interrupted(compiled, codes(compiler.compile_callback), compiled, place):
                break
            (kept,) = compiler._callbacks.values()
            results.append(all(one is kept for one in known) and len(known))

    results: list[int] = []
    thread = threading.Thread(target=compile_all, daemon=True)
    thread.start()
    thread.join(300)
    assert not thread.is_alive()
    assert len(results) > 3 and set(results) == {2}


INSTALL = """
import os, torch
from interrupts import Interrupt, codes, interrupted
import fastdrop
from fastdrop._patch import install

where = codes(install.install, install._update, install._override_all_keys, install._override)
infinities = torch.full((1000,), float("inf"))

def is_consistent(wanted):
    y = torch.nn.functional.dropout(infinities, 0.5)
    ours = not y.isnan().any()
    return ours == fastdrop.is_installed() == wanted == ("fastdrop" in torch.compiler.config.cache_key_tag)

def handler():
    (HANDLER)

def check(place):
    interrupted_at_all = True
    try:
        interrupted_at_all = interrupted(fastdrop.install, where, handler, place)
        right = not interrupted_at_all or is_consistent(EXPECTED)
    except Interrupt:
        right = True
    for switch, wanted in ((fastdrop.install, True), (fastdrop.uninstall, False), (fastdrop.install, True)):
        switch()
        right = right and is_consistent(wanted)
    return right, interrupted_at_all

place, count = 0, 0
while True:
    child = os.fork()
    if child == 0:
        code = 3
        try:
            right, at_all = check(place)
            code = (0 if at_all else 2) if right else 1
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 2:
        break
    assert code == 0, (place, code)
    place, count = place + STEP, count + 1
print(count > 5)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize(
    ("handler", "installed"),
    [("fastdrop.uninstall()", "None"), ("fastdrop.install()", "True"), ("exec('raise Interrupt')", "None")],
    ids=["uninstall", "install", "raise"],
)
@pytest.mark.sampled(2)
def test_install_that_is_interrupted(handler, installed):
    expected = "fastdrop.is_installed()" if installed == "None" else installed
    code = INSTALL.replace("(HANDLER)", handler).replace("EXPECTED", expected).replace("STEP", "397")
    assert run_python(code) == "True"
