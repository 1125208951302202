"""Compiling ahead of the first use."""

from collections.abc import Iterable
from typing import Final

import torch

from fastdrop._devices import cuda, kernels
from fastdrop._devices.kernels import FLOATS
from fastdrop._keys.arguments import cut, shown
from fastdrop._keys.broadcast import NO_BROADCAST, BroadcastLayout
from fastdrop.functional import drop_block2d, dropout_mask, embedding_dropout
from fastdrop_kernels.formulas import FORMULAS, IDENTITY

EACH: Final = (NO_BROADCAST,)  # every element has a draw of its own
SHARED: Final = (BroadcastLayout(8, 1), BroadcastLayout(2, 4))  # several share one: as a mask may lie over memory

FUSED: Final = {  # member: what it computes, and how its masks lie
    "alpha_dropout": (("alpha_dropout",), EACH),
    "drop_connect": (("dropout",), EACH),
    "drop_path": (("dropout", "drop"), SHARED),
    "dropout": (("dropout",), EACH),
    "dropout1d": (("dropout",), SHARED),
    "dropout2d": (("dropout",), SHARED),
    "dropout3d": (("dropout",), SHARED),
    "feature_alpha_dropout": (("alpha_dropout",), SHARED),
    "gaussian_dropout": (("gaussian_dropout",), EACH),
    "gaussian_noise": (("gaussian_noise",), EACH),
    "stochastic_depth": (("dropout",), SHARED),
    "variational_dropout": (("dropout",), SHARED),
}
BLOCKS: Final = frozenset({"drop_block2d", "drop_block3d"})
MEMBERS: Final = frozenset({*FUSED, *BLOCKS, "dropout_mask", "embedding_dropout", "word_dropout"})


def warmup(
    dtypes: Iterable[torch.dtype] = (torch.float32, torch.bfloat16, torch.float16, torch.float64),
    device: torch.device | str | None = None,
    members: Iterable[str] = ("dropout",),
) -> None:
    """Compile the kernels of these dtypes, or load them from the cache, so that no first call has to.

    They are those that the named members take, forward and backward, and that of `dropout_mask`. Before a CUDA graph is
    captured, this (or one call outside of it) is needed.

    Parameters
    ----------
    dtypes : iterable of torch.dtype
        Any of float16, bfloat16, float32, float64.
    device : device, optional
        The CPU (default) or a CUDA device; "cuda" is the current one.
    members : iterable of str
        Names of functions in `fastdrop.functional`, or "all" in place of an iterable. `dropout` with a noise_shape
        takes the kernels of `dropout2d`.

    Raises
    ------
    ValueError
        If there is no kernel for a dtype, or for the device; if a member is unknown.
    RuntimeError
        If the kernels cannot be had on a CUDA device; the reason is in the text.

    Examples
    --------
    >>> fastdrop.warmup([torch.float32], members=["dropout", "drop_path"])
    """
    wanted, named = list(dtypes), MEMBERS if members == "all" else frozenset(members)
    for dtype in wanted:
        if dtype not in FLOATS:
            raise ValueError(f"warmup needs dtypes out of {', '.join(map(str, FLOATS))}, but got {cut(dtype)}")
    if not named <= MEMBERS:
        known = ", ".join(sorted(MEMBERS))
        raise ValueError(f'warmup needs members="all" or an iterable of names out of {known}, but got {shown(members)}')
    where = torch.device(device or "cpu")
    if where.type not in ("cpu", "cuda"):
        raise ValueError(f"warmup needs the CPU or a CUDA device, but got {where}")
    for dtype in wanted:
        x = torch.zeros(8, dtype=dtype, device=where)
        if not kernels.has_kernel(x):
            raise RuntimeError(f"fastdrop has no kernels on {x.device}: {cuda.reason(FLOATS[dtype], x.get_device())}")
        for name in named & FUSED.keys():
            _run(x, *FUSED[name])
        if named & BLOCKS:
            drop_block2d(x.view(1, 1, 2, 4), 0.5, 1, seed=0)
        if "embedding_dropout" in named:
            embedding_dropout(torch.zeros(1, dtype=torch.int64, device=where), x.view(2, 4), 0.5, seed=0)
    dropout_mask(8, 0.5, seed=0, device=where)


def _run(x: torch.Tensor, formulas: Iterable[str], patterns: Iterable[BroadcastLayout]) -> None:
    """Run what a member computes, and its derivatives."""
    for name in {each for formula in formulas for each in (formula, FORMULAS[formula].derivative)} - {IDENTITY}:
        for broadcast in patterns:
            kernels.launch(name, x, x, 0.5, 0, 0, broadcast)
