"""Every dropout of the process: torch's own operators replaced by ours, and given back."""

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

import torch
from torch._C import DispatchKey

from fastdrop._ops.dynamo_skip import dynamo_skip
from fastdrop._ops.modes import in_python_dispatcher
from fastdrop._patch import aten
from fastdrop._version import __version__
from fastdrop_kernels.locks import held_by_forks

COMPOSITE: Final = DispatchKey.CompositeImplicitAutograd
NO_KEYS: Final = torch._C.DispatchKeySet(DispatchKey.Undefined)
_changing: Final = held_by_forks(threading.RLock())
_installed: frozenset[str] = frozenset()  # operators that `install` asked for
_accelerated: list[frozenset[str]] = []  # operators that `accelerated` asked for, of each block open in any thread
_ours: Final[set[str]] = set()  # operators that are ours now

# Overrides stay in the dispatcher and hand all calls to torch when they are not wanted: to take one away while another
# thread is on its way through it crashes that thread.
_overridden: Final[set[str]] = set()
_natives: Final[dict[tuple[str, str], Callable[..., Any]]] = {}  # torch's own kernels, by operator and dispatch key
_libraries: Final[list[torch.library.Library]] = []  # which hold the overrides


def install(*, bernoulli: bool = False) -> None:
    """Make every dropout of this process ours: nn.Dropout, F.dropout, attention, LSTM layers, models of others.

    It replaces torch's operators dropout, feature_dropout, alpha_dropout, feature_alpha_dropout (their in-place forms
    too) and native_dropout for plain CPU and CUDA tensors. All else goes to torch's kernels as before: other devices
    and dtypes, subclasses, sparse, nested and quantized tensors, torch.func's transforms, p = 0 and p = 1. Code that is
    compiled from then on holds fastdrop's operator. A second call changes nothing.

    Parameters
    ----------
    bernoulli : bool
        Replace `Tensor.bernoulli_(p)` on the CPU too, which much code makes its masks with. It gets 10 times faster
        from 64K elements on, and 2 microseconds slower on the smallest tensors.

    Examples
    --------
    >>> fastdrop.install()
    >>> y = torch.nn.functional.dropout(torch.ones(4096), 0.1)  # ours, as in all layers and models

    Notes
    -----
    Masks follow `torch.manual_seed`, but are others than torch's. Compile after this call: code that is compiled
    already stays as it is, even if it is given to `torch.compile` again, until `torch.compiler.reset()` forgets it.
    """
    global _installed
    _installed = aten.names(bernoulli)
    _update()


def uninstall() -> None:
    """Give torch its own dropouts back: its masks are then those from before `install`, bit for bit.

    Code that was compiled meanwhile keeps fastdrop's operator, and blocks of `accelerated` go on until they end.
    Torch's operators stay slower than before the first `install`, by 1.6 times on 64 elements: they are still called
    through it.

    Examples
    --------
    >>> fastdrop.uninstall()
    >>> fastdrop.is_installed()
    False
    """
    global _installed
    _installed = frozenset()
    _update()


@contextlib.contextmanager
def accelerated(*, bernoulli: bool = False) -> Iterator[None]:
    """Install for the length of a block, in all threads. Blocks can be nested, and overlap in threads.

    Parameters
    ----------
    bernoulli : bool
        As in `install`.

    Examples
    --------
    >>> with fastdrop.accelerated():
    ...     y = torch.nn.functional.dropout(torch.ones(4096), 0.1)
    """
    operators = aten.names(bernoulli)
    _accelerated.append(operators)
    try:
        _update()
        yield
    finally:
        _accelerated.remove(operators)
        _update()


def is_installed() -> bool:
    """Return whether torch's dropouts are ours now, by `install` or within `accelerated`.

    Examples
    --------
    >>> with fastdrop.accelerated():
    ...     fastdrop.is_installed()
    True
    """
    return bool(_ours)


def _wanted() -> frozenset[str]:
    return _installed.union(*_accelerated)


def _update() -> None:
    """Make the operators ours that are wanted, and no others.

    A signal handler may do so between any two steps of this, or end it there by an exception.
    """
    with _changing:
        wanted = None
        while wanted != (wanted := _wanted()):
            ensure_overridden(wanted)
            _ours.update(wanted)
            _ours.intersection_update(wanted)
            # Torch keeps compiled graphs on disk by what they were compiled from: F.dropout, ours or not.
            config: Any = torch.compiler.config
            tag = f",fastdrop-{__version__}"
            config.cache_key_tag = config.cache_key_tag.replace(tag, "") + (tag if wanted else "")


def ensure_overridden(operators: frozenset[str]) -> None:
    """Have operators called through our overrides, which hand all calls to torch where they are not to be ours."""
    with _changing:
        for name in operators.difference(_overridden):
            _override_all_keys(name)
            _overridden.add(name)


def _override_all_keys(name: str) -> None:
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    _libraries.append(library)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns where a kernel is overridden
        for key in aten.keys(name):
            _override(library, name, key)


def _override(library: Any, name: str, key: str) -> None:
    packet, _, overload = name.partition(".")
    operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
    try:  # an interrupted call may have overridden it before: torch's own kernel is the one that was found then
        native = _natives.setdefault((name, key), torch.library.get_kernel(f"aten::{name}", key).call_boxed)
    except RuntimeError:  # torch is built without CUDA
        return
    if operator.has_kernel_for_dispatch_key(COMPOSITE):
        # Such a kernel reads no key set, and not asking for one spares 0.3 us a call.
        kernel, with_keyset = aten.override(name, partial(_composite, operator, native), _ours), False
    else:

        @dynamo_skip
        def kernel(keyset: Any, *args: Any, **kwargs: Any) -> Any:
            return aten.override(name, partial(native, keyset), _ours)(*args, **kwargs)

        with_keyset = True
    library.impl(name, kernel, key, with_keyset=with_keyset, allow_override=True)
    operator._uncache_dispatch(getattr(DispatchKey, key))  # compilation remembers what it found here before


def _composite(operator: Any, native: Callable[..., Any], *args: Any) -> Any:
    """Call a kernel that is made of other operators: where compilation looks for them, its own in Python."""
    if in_python_dispatcher():
        return operator.py_kernels.get(COMPOSITE, partial(native, NO_KEYS))(*args)
    return native(NO_KEYS, *args)
