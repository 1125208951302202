"""Dropout calls, counted where the router decides on them: what stands in place of its functions while `explain` looks.

Nothing is decided here. The router's questions are asked as before, and the last one with an unusual answer is why a
call went its way; who computed it is who was seen to. Functions are swapped only where Dynamo does not read them, or
where it looks through the swap: see entries.py. Where nobody looks, all functions are the original ones.
"""

import inspect
import sys
import threading
from collections.abc import Callable
from typing import Any, Final

import torch

from fastdrop._devices import kernels
from fastdrop._devices.kernels import why_no_kernel
from fastdrop._keys.key import NoiseShape
from fastdrop._ops import autograd, decompose, dispatch, draws, fallback, join, layout, library, modes
from fastdrop._ops.entries import ENTRIES, INLINED
from fastdrop._ops.native import bytes_kept
from fastdrop._patch import aten, install
from fastdrop_kernels.locks import held_by_forks

NOBODY: Final = "nobody"
TORCH: Final = "torch"
OURS_BY_TORCH: Final = "torch, our mask"
OPERATOR: Final = "graph operator"

Key = tuple[str, str, str]  # function, who computed it, why
Totals = dict[Key, tuple[int, int, int]]  # calls, elements, bytes not kept

_lock: Final = held_by_forks(threading.RLock())
_counts: Final[list[Totals]] = []  # of each open block
_swapped: Final[list[tuple[Any, str, Any]]] = []  # module, name, original
_thread: Final = threading.local()


class _Call:
    """A dropout call that a thread is in."""

    computed_by = ""
    reason = ""


def begin(totals: Totals) -> None:
    """Add all dropout calls of the process to these totals from now on."""
    with _lock:
        _counts.append(totals)
        if len(_counts) == 1:
            install.override(aten.OPERATORS)
            _swap_all()


def end(totals: Totals) -> None:
    """Leave these totals as they are."""
    with _lock:
        _counts[:] = [each for each in _counts if each is not totals]
        if not _counts:
            for count in aten.NATIVES:
                count(None)
            while _swapped:
                setattr(*_swapped.pop())


def snapshot(totals: Totals) -> Totals:
    """Return a copy, of one moment."""
    with _lock:
        return dict(totals)


def _swap_all() -> None:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "fastdrop":
            for attribute, value in list(vars(module).items()):
                if inspect.isfunction(value) and value in ENTRIES:
                    _swap(module, attribute, _entry(value, is_torchs=module is aten))
    for module in (dispatch, autograd):
        _swap(module, "has_kernel", _asked(module.has_kernel, False, why_no_kernel))
        _swap(module, "in_dispatch_mode_or_trace", _asked(module.in_dispatch_mode_or_trace, True, _watcher))
    _swap(dispatch, "in_transform", _asked(dispatch.in_transform, True, lambda: "torch.func transform"))
    _swap(fallback, "is_exported", _asked(fallback.is_exported, True, lambda: "traced or exported"))
    _swap(aten, "has_kernel", _asked(aten.has_kernel, False, why_no_kernel))
    _swap(aten, "override", _native_dropout_counted(aten.override))
    for module in (layout, join):
        _swap(module, "launch", _launching(module.launch))
    _swap(kernels, "masked_scale", _launching(kernels.masked_scale))
    _swap(draws, "mask", _masking(draws.mask))
    _swap(decompose, "run", _running_operator(decompose.run, OURS_BY_TORCH))
    _swap(library, "compute", _running_operator(library.compute, ""))
    for count in aten.NATIVES:
        count(_native)


def _swap(module: Any, name: str, function: Any) -> None:
    _swapped.append((module, name, getattr(module, name)))
    setattr(module, name, function)


def _current() -> _Call | None:
    return getattr(_thread, "call", None)


def _watcher() -> str:
    return "torch.jit.trace" if modes.in_trace() else "dispatch mode"


def _asked(question: Callable[..., Any], unusual: bool, reason: Callable[..., str]) -> Callable[..., Any]:
    """Return a question of the router's that takes note of an unusual answer."""

    def ask(*args: Any) -> Any:
        answer = question(*args)
        call = _current()
        if call is not None and bool(answer) is unusual:
            call.reason = reason(*args)
        return answer

    return ask


def _launching(launch: Callable[..., Any]) -> Callable[..., Any]:
    """Return a launch that takes note of the device; its first tensor is what it reads."""

    def launching(*args: Any, **kwargs: Any) -> Any:
        result = launch(*args, **kwargs)
        call = _current()
        if call is not None and result is not False:
            x = next(each for each in args if isinstance(each, torch.Tensor))
            call.computed_by = f"{'CPU' if x.is_cpu else 'CUDA'} kernel"
        return result

    return launching


def _masking(mask: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return what makes a mask; whoever applies it is seen later, if it is not one of torch's operators."""

    def masking(*args: Any, **kwargs: Any) -> torch.Tensor:
        call = _current()
        if call is not None:
            call.computed_by = call.computed_by or OURS_BY_TORCH
        return mask(*args, **kwargs)

    return masking


def _running_operator(function: Callable[..., torch.Tensor], computed_by: str) -> Callable[..., torch.Tensor]:
    """Return what computes a formula; outside of all calls and backwards, that is an operator in a graph that runs."""

    def run(formula: str, x: torch.Tensor, key: Any) -> torch.Tensor:
        call = _current()
        if call is not None:
            call.computed_by = computed_by
        elif not modes.in_backward():
            name = "fastdrop::dropout" + ("" if formula == "dropout" else f" ({formula})")
            _add((name, OPERATOR, "compiled code"), x.numel(), 0)
        return function(formula, x, key)

    return run


def _entry(function: Callable[..., Any], is_torchs: bool) -> Callable[..., Any]:
    """Return a function that public ones, or overrides of torch's operators, call, with its calls counted."""
    signature, name = inspect.signature(function), ENTRIES[function]

    def counted(*args: Any, **kwargs: Any) -> Any:
        if _current() is not None:
            return function(*args, **kwargs)
        given = signature.bind(*args, **kwargs).arguments
        variant = given.get("variant")
        if is_torchs:
            called = f"torch.{variant.operator}{'_' if given['inplace'] else ''}"
        else:
            called = f"fastdrop.{name or variant.name}"
        x = next((each for each in args if isinstance(each, torch.Tensor)), None)
        return _counted(
            called, x, given.get("parameter", given.get("p")), given["training"], lambda: function(*args, **kwargs),
            formula=variant and variant.formula, noise_shape=given.get("noise_shape"),
        )  # fmt: skip

    vars(counted)[INLINED] = vars(function)[INLINED]
    return counted


def _native(name: str, native: Callable[..., Any], why: Callable[..., str]) -> Callable[..., Any]:
    """Return torch's own kernel of an operator, with its calls counted."""

    def counted(x: torch.Tensor, p: float, train: bool | None) -> Any:
        return _counted(f"torch.{name}", x, p, train is not False, lambda: native(x, p, train), lambda: why(x, p, train))

    return counted


def _native_dropout_counted(override: Callable[..., Any]) -> Callable[..., Any]:
    """Return `aten.override`, which is called at each call of this operator, with its calls counted."""

    def overriding(name: str, native: Callable[..., Any], enabled: Any) -> Callable[..., Any]:
        kernel: Callable[..., Any] = override(name, native, enabled)
        if name != aten.NATIVE_DROPOUT:
            return kernel
        return _native(name, kernel, lambda x, p, train: aten.why_native(name, enabled, x, p, train))

    return overriding


def _counted(
    function: str, x: Any, p: Any, training: bool, run: Callable[[], Any], why: Callable[[], str] = str,
    formula: str | None = None, noise_shape: NoiseShape = None,
) -> Any:  # fmt: skip
    """Run a dropout call and count it, unless it is part of another, computes nothing or fails.

    Graphs that are recorded are not counted, but their operators when they run.
    """
    if _current() is not None:
        return run()
    call = _thread.call = _Call()
    try:
        result = run()
    finally:
        _thread.call = None
    if modes.in_graph_tracing():
        return result
    computed_by, reason = call.computed_by, call.reason
    if not computed_by:
        nothing = "eval mode" if not training else "p = 0" if p == 0 else "" if x.numel() else "no elements"
        computed_by, reason = (NOBODY, nothing) if nothing else (TORCH, reason or why())
    elif computed_by == OURS_BY_TORCH:
        reason = reason or "no kernel applies this mask"
    is_ours = computed_by not in (NOBODY, TORCH) and not (computed_by == OURS_BY_TORCH and modes.in_transform())
    is_recorded = is_ours and formula is not None and result.requires_grad
    _add((function, computed_by, reason), x.numel(), bytes_kept(formula, x, noise_shape) if is_recorded else 0)
    return result


def _add(key: Key, elements: int, not_kept: int) -> None:
    with _lock:
        for totals in _counts:
            calls, before, bytes_before = totals.get(key, (0, 0, 0))
            totals[key] = calls + 1, before + elements, bytes_before + not_kept
