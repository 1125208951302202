"""Fresh Python processes that see the packages as this one does, installed or from a checkout."""

import os
import subprocess
import sys


def run_python(code: str, **environment: str) -> str:
    """Return what a new process prints that runs `code`; it fails if the process does."""
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
