"""Kernels' names of the version before, on the command line."""

import pytest
from cuda_tools import needs_tools

from fastdrop.cli import main


@needs_tools
@pytest.mark.parametrize(("old", "new"), [("runs_drop", "segments_drop"), ("rows_drop", "repeated_rows_drop")])
@pytest.mark.sampled(2)
def test_an_old_name_of_a_kernel_works_and_warns(old, new, capsys):
    with pytest.warns(FutureWarning, match=f"{old} is called {new} now"):
        assert main(["inspect", old, "--dtype", "float16", "--ptx"]) == 0
    assert f"fastdrop_{new}_float16" in capsys.readouterr().out
