"""`python -m bench.gpu`, from a checkout: check the kernels on a GPU, then measure them."""

import argparse
import pathlib
import sys
from collections.abc import Sequence

import torch


def _file(text: str) -> pathlib.Path:
    path = pathlib.Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file in a folder that is there, but got {text!r}")
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description="Check and measure dropout on a GPU.")
    parser.add_argument("--json", metavar="FILE", type=_file, help="where the results go (default: bench/results/)")
    parser.add_argument("--plot", metavar="FILE", type=_file, help="where the picture goes, a PNG (default: likewise)")
    parser.add_argument("--quick", action="store_true", help="a rough answer: three sizes, short samples")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, 1 where the GPU's results differ from the CPU's, 2 without a GPU or without rich."""
    arguments = _parser().parse_args(argv)
    if not torch.cuda.is_available():
        print("python -m bench.gpu needs a CUDA GPU, but torch.cuda.is_available() is False", file=sys.stderr)
        return 2
    try:
        from bench.gpu import command, device
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "rich":
            raise
        print('python -m bench.gpu needs rich: pip install "fastdrop[bench]"', file=sys.stderr)
        return 2
    plan = command.QUICK if arguments.quick else command.FULL
    return command.run(device.CudaDevice(), plan, arguments.json, arguments.plot)


if __name__ == "__main__":
    sys.exit(main())
