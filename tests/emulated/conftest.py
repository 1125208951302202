"""What all tests of GPU kernels without a GPU need."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _compiled_once(ptx_on_disk: None) -> None:
    """Compile each kernel once, for all processes and runs."""
