"""Dropout of the weights of any module."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from fastdrop import functional
from fastdrop._keys import seeds
from fastdrop._keys.arguments import check_probability
from fastdrop._keys.key import Seed
from fastdrop._ops.dynamo_skip import dynamo_skip
from fastdrop._ops.modes import is_compiling
from fastdrop.modules.views import Change, Substitution
from fastdrop.modules.weights import default_weights, weights_of
from fastdrop.modules.wrapper import Wrapper


class DropConnect(Wrapper):
    """Run a module with dropped weights: in training each is zeroed with probability p, the others scaled by 1/(1-p).

    Every call draws new masks. Names of parameters and keys of a state_dict are the module's own, as if it were not
    wrapped: a state_dict saved with the wrapper loads without it, and vice versa.

    Parameters
    ----------
    module : torch.nn.Module
        The module, which becomes the attribute `wrapped`, and can be replaced there. All arguments of calls but seed
        and offset are passed to it.
    p : float in [0, 1]
        Probability of a weight being zeroed.
    weights : sequence of str, optional
        Names of the parameters to drop, as in `module.named_parameters()`, or of tensors that the module computes of
        them.
        Default: those of two dimensions or more with "weight" in their name; of recurrent layers and cells only
        `weight_hh...`, the recurrent ones; of parametrized, normed and pruned weights the computed tensor.
    generator : torch.Generator, optional
        Where seeds are drawn, one for each weight and call; default: torch's.

    Raises
    ------
    ValueError
        If p is outside [0, 1], if weights names no parameter of the module, if there is nothing to drop, or if a lazy
        module has not been called yet.
    TypeError
        If module is no torch.nn.Module, or weights no sequence of names; if a module with a dropped weight is scripted,
        compiled, or has a forward of its own that is not its class's.

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

    With a key, weight i of `weights` has the mask of (seed + i * 0x9E3779B97F4A7C15 modulo 2**64, offset): the first
    has the mask of the key itself, and all keys are different.

    The wrapped module's forward and hooks run on a view of it: an object of its class that shares its state and
    compares equal, but has dropped weights. These are invisible elsewhere: to other threads, and in a state_dict saved
    meanwhile. Compile the DropConnect, not a module in it; a module that computes its weights runs outside of the
    graph.
    """

    p: float = 0.5
    _names: tuple[str, ...] | None = None  # as given

    def __init__(
        self,
        module: torch.nn.Module,
        p: float = 0.5,
        weights: Sequence[str] | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        vars(self)["_names"] = weights  # which is checked with the module
        super().__init__(module, generator)
        self.weights, self.p = weights, check_probability(p)

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the dropped weights: those that were given, or the default ones of the current module."""
        return self._names or tuple(weight.path for weight in default_weights(self.wrapped))

    @weights.setter
    def weights(self, names: Sequence[str] | None) -> None:
        found = weights_of(self.wrapped, names)
        self._names = None if names is None else tuple(weight.path for weight in found)

    def _check(self, wrapped: Any) -> None:
        super()._check(wrapped)
        if any(is_lazy(parameter) for parameter in wrapped.parameters()):
            kind = type(wrapped).__name__
            raise ValueError(f"{kind} has parameters without a size: call it once before it is wrapped")
        substitution = Substitution()
        for weight in weights_of(wrapped, self._names):
            substitution.change(weight, lambda value: value)
        for module in wrapped.modules():
            substitution.view(module)  # raises if a view is impossible

    def forward(self, *args: Any, seed: Seed | None = None, offset: int = 0, **kwargs: Any) -> Any:
        """Return the module's result; seed and offset as in `functional.dropout`."""
        if not self.training or self.p == 0.0:
            return self.wrapped(*args, **kwargs)
        if not is_compiling():
            return self._run(args, kwargs, seed, offset)
        dropped: dict[str, torch.Tensor] = {}
        seen: list[torch.Tensor] = []
        for i, weight in enumerate(weights_of(self.wrapped, self._names)):
            if weight.value is None:  # computed in the wrapped module, of which a graph can have no view
                return self._run(args, kwargs, seed, offset)
            if not any(weight.value is one for one in seen):
                seen.append(weight.value)
                dropped[weight.path] = self._change(i, seed, offset)(weight.value)
        return torch.func.functional_call(self.wrapped, dropped, args, kwargs)  # seen in this graph only

    @dynamo_skip
    def _run(self, args: Any, kwargs: Any, seed: Seed | None, offset: int) -> Any:
        substitution = Substitution()
        for i, weight in enumerate(weights_of(self.wrapped, self._names)):
            substitution.change(weight, self._change(i, seed, offset))
        return substitution.view(self.wrapped)(*args, **kwargs)

    vars(_run).update(  # as torch.compiler.disable does, but at no cost to calls
        _torchdynamo_disable=True, _torchdynamo_disable_msg="a weight that DropConnect drops is computed"
    )

    def _change(self, index: int, seed: Seed | None, offset: int) -> Change:
        return partial(functional.dropout, p=self.p, **self.key(seeds.fold_in(seed, index), offset))

    def extra_repr(self) -> str:
        """Show the module, p, and what is dropped."""
        return f"{super().extra_repr()}, p={self.p}, weights={self.weights}"
