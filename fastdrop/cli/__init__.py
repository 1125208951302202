"""The `fastdrop` command."""

from fastdrop.cli.main import main

__all__ = ["main"]
