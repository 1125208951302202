"""Dropout of the weights of any module."""

import contextlib
import operator
import threading
from collections.abc import Collection, Sequence
from typing import Any, Final

import torch
from torch.compiler import is_dynamo_compiling

from fastdrop import _seeds, functional
from fastdrop._checks import check_probability
from fastdrop.modules.wrapper import Wrapper

RECURRENT: Final = (torch.nn.RNNBase, torch.nn.RNNCellBase)

_swapping = threading.RLock()  # while one thread has a module's weights swapped, none may take these for its own


class DropConnect(Wrapper):
    """Run a module with dropped weights: in training each is zeroed with probability p, the others scaled by 1/(1-p).

    Every call has new masks. Names of parameters and keys of a state_dict are the module's own, as if it were not
    wrapped: what was saved with it loads without it, and the other way round.

    Parameters
    ----------
    module : torch.nn.Module
        The module, which is then the attribute `wrapped`. All arguments of calls are passed to it, but seed and offset.
    p : float in [0, 1]
        Probability of a weight being zeroed.
    weights : sequence of str, optional
        Names of the parameters to drop, as in `module.named_parameters()`. Default: those of two dimensions or more
        with "weight" in their name; of recurrent layers and cells only `weight_hh...`, the recurrent ones.
    generator : torch.Generator, optional
        Where seeds are drawn, one a weight and call; default: torch's.

    Raises
    ------
    ValueError
        If p is outside [0, 1], if weights names no parameter of the module, or if there is nothing to drop.
    TypeError
        If module is no torch.nn.Module, or weights no sequence of names.

    Examples
    --------
    >>> layer = fastdrop.DropConnect(torch.nn.Linear(4, 3), p=0.5)
    >>> y = layer(x)
    >>> y = layer(x, seed=7, offset=step)  # the masks of (7, step), on any machine
    >>> lstm = fastdrop.DropConnect(torch.nn.LSTM(4, 8, num_layers=2), p=0.5)
    >>> lstm.weights
    ('weight_hh_l0', 'weight_hh_l1')
    >>> list(lstm.state_dict()) == list(lstm.wrapped.state_dict())
    True

    Notes
    -----
    Wan et al., "Regularization of neural networks using DropConnect" (ICML 2013); for recurrent weights Merity et al.,
    "Regularizing and optimizing LSTM language models" (ICLR 2018): one mask for all time steps. A cell that is called
    once a time step has a new mask each time, unless it is given a key.

    Under a key, weight i of `weights` has the mask of (seed + i * 0x9E3779B97F4A7C15 modulo 2**64, offset): the first
    that of the key itself, and no two the same.

    The wrapped module sees dropped weights while it runs, as in `torch.func.functional_call`, in one thread at a time.
    To save memory checkpoint this module, not parts of the wrapped one, which would run again with whole weights.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        p: float = 0.5,
        weights: Sequence[str] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(module, generator)
        self.p = check_probability(p)
        self.weights = tuple(_default_weights(module) if weights is None else _checked(weights, module))
        if not self.weights:
            names = list(dict(module.named_parameters()))
            raise ValueError(f"nothing to drop in {type(module).__name__}: name some of its parameters, {names}")

    def forward(self, *args: Any, seed: int | torch.Tensor | None = None, offset: int = 0, **kwargs: Any) -> Any:
        """Return the module's result; seed and offset as in `functional.dropout`."""
        if not self.training or self.p == 0.0:
            return self.wrapped(*args, **kwargs)
        with contextlib.nullcontext() if is_dynamo_compiling() else _swapping:  # a compiled module is not swapped
            dropped = {name: self._dropped(i, name, seed, offset) for i, name in enumerate(self.weights)}
            return torch.func.functional_call(self.wrapped, dropped, args, kwargs)

    def _dropped(self, index: int, name: str, seed: int | torch.Tensor | None, offset: int) -> torch.Tensor:
        weight = operator.attrgetter(name)(self.wrapped)  # looked up at each call: it may have been moved, or tied
        return functional.dropout(weight, self.p, **self.key(_seeds.part(seed, index), offset))

    def extra_repr(self) -> str:
        """Show the module, p, and what is dropped."""
        return f"{super().extra_repr()}, p={self.p}, weights={self.weights}"


def _default_weights(module: torch.nn.Module) -> list[str]:
    """Return the names of a module's weights, each once; of recurrent layers those of the recurrent ones."""
    parameters = dict(module.named_parameters())
    owners = dict(module.named_modules())
    names = []
    for name, parameter in parameters.items():
        path, _, last = name.rpartition(".")
        part = "weight_hh" if isinstance(owners[path], RECURRENT) else "weight"
        if part in last and parameter.dim() >= 2:
            names.append(name)
    return names


def _checked(weights: Any, module: torch.nn.Module) -> Collection[str]:
    """Return names, each once, if they are those of parameters of the module."""
    if not isinstance(weights, Sequence) or isinstance(weights, str) or not all(isinstance(n, str) for n in weights):
        raise TypeError(f"weights has to be a sequence of names of parameters, but got {weights!r}")
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name in weights:
        if name not in parameters:
            raise ValueError(f"weights has to name parameters of the module, {list(parameters)}, but got {name!r}")
    return dict.fromkeys(weights)
