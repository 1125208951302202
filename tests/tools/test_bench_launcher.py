"""`python -m bench.launcher`, on the stand-in driver."""

import itertools
import json

import pytest

pytest.importorskip("numba_cuda")
pytest.importorskip("cuda.core")

from processes import run_python


def test_the_benchmark_of_the_launcher(loaded_driver, tmp_path):
    """It runs, writes the differences that its times have, and leaves no file."""
    pytest.importorskip("rich")
    path, temporary = tmp_path / "found.json", tmp_path / "temporary"
    temporary.mkdir()
    code = f"from bench.launcher import main; assert main(['--quick', '--json', {str(path)!r}]) == 0"
    torchs_own = str(tmp_path / "inductor")  # a folder that torch makes when its compiler is imported
    said = run_python(code, TMPDIR=str(temporary), TORCHINDUCTOR_CACHE_DIR=torchs_own)
    assert list(temporary.iterdir()) == []
    found = json.loads(path.read_text())["results"]
    seconds = {(each["size"], each["name"]): each["seconds"] for each in found}
    assert len(seconds) == len(found) == 2 * 9
    above = {}
    for size, call in itertools.product((64, 2**20), ("Function", "dropout")):
        forward, both = (
            seconds[size, f"{call}, {part}"] - seconds[size, f"baseline, {part}"]
            for part in ("forward", "forward + backward")
        )
        above |= {(size, f"{call}, forward"): forward, (size, f"{call}, forward + backward"): both / 2}
    assert {(e["size"], e["name"]): e["above_baseline"] for e in found if e["above_baseline"] is not None} == above
    for call in ("Function", "dropout"):
        met = max(most for (_, name), most in above.items() if name.startswith(call)) < 3e-6
        assert f"{'met' if met else 'MISSED'}: {call} under 3 " in said
