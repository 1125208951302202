"""The command line: `fastdrop run`, `bench`, `info`, `inspect`, `compile` and `--version`."""

import argparse
import os
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Final

import torch

from fastdrop._devices.kernels import FLOATS
from fastdrop._version import __version__
from fastdrop.cli import compile, info, inspect, run

SIZES: Final = "64,4096,65536,1048576,16777216"
DTYPES: Final = {name: dtype for dtype, name in FLOATS.items()}


def _dtypes(text: str) -> list[torch.dtype]:
    names = list(DTYPES) if text == "all" else text.split(",")
    if not set(names) <= set(DTYPES):
        known = ", ".join(DTYPES)
        raise argparse.ArgumentTypeError(f"expected all, or some of {known}, separated by commas, but got {text!r}")
    return [DTYPES[name] for name in dict.fromkeys(names)]


def _whole_numbers(text: str, most: float = float("inf")) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1 or max(numbers) > most:
        limit = "of at least 1" if most == float("inf") else f"from 1 to {most} (the CPUs of this machine)"
        raise argparse.ArgumentTypeError(f"expected whole numbers {limit}, separated by commas, but got {text!r}")
    return list(dict.fromkeys(numbers))


def _threads(text: str) -> list[int]:
    return _whole_numbers(text, os.cpu_count() or 1)


def _writable(text: str) -> pathlib.Path:
    """Return the path that a file can be written to later; found out now, as measuring takes a while."""
    path = pathlib.Path(os.path.realpath(text))  # else a link would be replaced, not what it points to
    try:
        if path.exists() and not (path.is_file() and os.access(path, os.W_OK)):
            raise OSError("what is there is no file, or may not be written")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        reason = error.strerror or error  # without the temporary file's name
        raise argparse.ArgumentTypeError(f"expected a file that can be written, but got {text!r}: {reason}") from None
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fastdrop", description="Dropout for PyTorch at the speed of a copy.")
    parser.add_argument("--version", action="version", version=f"fastdrop {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    run.add_to(commands)
    commands.add_parser("info", help="show versions, CPU, threads and cache, for bug reports").set_defaults(run=_info)
    bench = commands.add_parser("bench", help="compare the speed with native dropout and with a copy")
    bench.set_defaults(run=_bench)
    bench.add_argument("--json", metavar="FILE", type=_writable, help="also write the results to FILE")
    bench.add_argument(
        "--dtype", default="float32", type=_dtypes,
        help=f"all, or some of {', '.join(DTYPES)}, separated by commas (default: %(default)s)",
    )  # fmt: skip
    bench.add_argument(
        "--sizes", default=SIZES, type=_whole_numbers,
        help="numbers of elements, separated by commas (default: %(default)s)",
    )  # fmt: skip
    bench.add_argument(
        "--threads", type=_threads, help="numbers of threads, separated by commas (default: 1 and torch's)"
    )
    bench.add_argument("--quick", action="store_true", help="a rough answer in about 15 seconds")
    inspect.add_to(commands)
    compile.add_to(commands)
    return parser


def _info(arguments: argparse.Namespace) -> int:
    print(info.text())
    return 0


def _bench(arguments: argparse.Namespace) -> int:
    try:
        from fastdrop.bench.run import run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "rich":
            raise
        print('fastdrop bench needs rich: pip install "fastdrop[bench]"', file=sys.stderr)
        return 2
    threads = arguments.threads or sorted({1, torch.get_num_threads()})
    run(arguments.dtype, arguments.sizes, threads, arguments.quick, arguments.json)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; default: the process's.

    Returns
    -------
    int
        The exit code: 0, or 2 where something that is needed is missing. Bad arguments exit with 2 at once.
    """
    arguments = _parser().parse_args(argv)
    if arguments.command == "run":  # whose program's errors are its own
        return int(arguments.run(arguments))
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever reads, `head` for one, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the last flush of all succeeds
        return 0
    return code
