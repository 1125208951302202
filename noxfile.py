"""The tests on each version of torch that fastdrop is for, each in an environment of its own.

`nox` runs them all, `nox -s "tests(2.14.1)" -- tests/unit/test_stream.py` a file of them on one version.
"""

import pathlib
import re

import nox

TORCH = ("2.10.0", "2.13.0", "2.14.1")  # the oldest, the one of constraints.txt, the newest
CUDA_12 = ("2.10.0",)  # those that PyPI has for CUDA 12 only; all others are for CUDA 13

nox.options.default_venv_backend = "venv"
nox.options.reuse_existing_virtualenvs = True


@nox.session
@nox.parametrize("torch", TORCH, ids=TORCH)
def tests(session: nox.Session, torch: str) -> None:
    """Run the tests on one version of torch; what follows `--` goes to pytest."""
    of_torch = r"^(torch|cuda|nvidia)[a-z-]*==.*\n"
    others = re.sub(of_torch, "", pathlib.Path("constraints.txt").read_text(), flags=re.MULTILINE)
    constraints = pathlib.Path(session.create_tmp(), "constraints.txt")
    constraints.write_text(f"torch=={torch}\n{others}")
    extras = "test-torch,cuda12" if torch in CUDA_12 else "test"
    session.install("-c", str(constraints), "-e", f".[{extras}]")
    session.run("python", "-m", "pytest", "-n", "auto", "-m", "slow or not slow", *session.posargs)
