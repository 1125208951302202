"""What was compiled or exported elsewhere: before install(), or for a process without fastdrop."""

import pytest
import torch
from graphs import MARKS
from processes import run_python

import fastdrop

pytestmark = [*MARKS, pytest.mark.usefixtures("uninstalled")]


def is_ours(function: torch.nn.Module) -> bool:
    """Return whether infinity is dropped, where native makes NaN of it."""
    return not function(torch.full((300,), torch.inf)).isnan().any()


def test_compiled_models_are_ours_after_a_reset_and_torchs_after_the_next():
    model = torch.nn.Sequential(torch.nn.Dropout(0.5))

    def again() -> torch.nn.Module:
        # As Inductor decomposes: an undecomposed graph of native's calls native_dropout, which install() overrides.
        return torch.compile(model, backend="aot_eager_decomp_partition")  # type: ignore[return-value]

    assert not is_ours(again())
    fastdrop.install()
    assert not is_ours(again())
    torch.compiler.reset()
    assert is_ours(again())
    fastdrop.uninstall()
    assert is_ours(again())
    torch.compiler.reset()
    assert not is_ours(again())


SAVE = """
import fastdrop, torch


class Keyed(torch.nn.Module):
    def forward(self, x):
        return fastdrop.functional.dropout(x, 0.5, seed=3)


for name, model in (("eval", fastdrop.Dropout(0.5).eval()), ("train", fastdrop.Dropout(0.5)), ("key", Keyed())):
    torch.export.save(torch.export.export(model, (torch.ones(300),)), f"{folder}/{name}.pt2")
print("ok")
"""

LOAD = """
import sys, torch
x = torch.ones(300)
assert torch.equal(torch.export.load(f"{folder}/eval.pt2").module()(x), x)
assert set(torch.export.load(f"{folder}/train.pt2").module()(x).tolist()) == {0.0, 2.0}
try:
    torch.export.load(f"{folder}/key.pt2")
except RuntimeError:
    pass
else:
    raise AssertionError("loaded without the operator")
assert "fastdrop" not in sys.modules
import fastdrop
y = torch.export.load(f"{folder}/key.pt2").module()(x)
assert torch.equal(y, fastdrop.functional.dropout(x, 0.5, seed=3))
print("ok")
"""


def test_an_exported_program_in_a_file(tmp_path):
    folder = f"folder = {str(tmp_path)!r}\n"
    assert run_python(folder + SAVE) == "ok"
    assert run_python(folder + LOAD).endswith("ok")
