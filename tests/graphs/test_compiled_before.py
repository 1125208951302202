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
model = torch.nn.Sequential(fastdrop.Dropout(0.5), torch.nn.Identity())
for mode in (True, False):
    torch.export.save(torch.export.export(model.train(mode), (torch.ones(300),)), f"{folder}/{mode}.pt2")
print("ok")
"""

LOAD = """
import sys, torch
x = torch.ones(300)
assert torch.equal(torch.export.load(f"{folder}/False.pt2").module()(x), x)
try:
    torch.export.load(f"{folder}/True.pt2")
except RuntimeError:
    pass
else:
    raise AssertionError("loaded without the operator")
assert "fastdrop" not in sys.modules
import fastdrop
run = torch.export.load(f"{folder}/True.pt2").module()
torch.manual_seed(3)
y = run(x)
torch.manual_seed(3)
assert torch.equal(y, fastdrop.functional.dropout(x, 0.5))
print("ok")
"""


def test_an_exported_program_in_a_file(tmp_path):
    folder = f"folder = {str(tmp_path)!r}\n"
    assert run_python(folder + SAVE) == "ok"
    assert run_python(folder + LOAD).endswith("ok")
