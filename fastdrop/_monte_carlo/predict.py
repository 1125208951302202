"""Monte Carlo dropout: a model's uncertainty, estimated from its variance under dropout."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import Module

from fastdrop._keys import seeds
from fastdrop._keys.arguments import TWO_64, cut, integer, signed64
from fastdrop._monte_carlo.active import Named, mc_dropout
from fastdrop._monte_carlo.turns import turn

__all__ = ["Prediction", "mc_predict"]


class Prediction(NamedTuple):
    """What `mc_predict` returns: tensors on the output's device, of float32, or float64 where the model's are.

    Attributes
    ----------
    mean : torch.Tensor
        Mean over the samples, of the output's shape; of a classifier's probabilities.
    std : torch.Tensor
        Standard deviation over the samples as `torch.std` has it, with the divisor samples - 1: NaN for one sample.
    samples : torch.Tensor or None
        All samples, along a new first dimension; None without `keep_samples`.
    entropy : torch.Tensor or None
        Of a classifier: predictive entropy in nats, of the output's shape without class_dim.
    mutual_information : torch.Tensor or None
        Of a classifier: the part of the entropy that comes from the model, in nats: `entropy` less the mean of the
        samples' entropies.
    """

    mean: torch.Tensor
    std: torch.Tensor
    samples: torch.Tensor | None
    entropy: torch.Tensor | None
    mutual_information: torch.Tensor | None


def mc_predict(
    model: Module,
    x: torch.Tensor | tuple[Any, ...] | Mapping[str, Any],
    samples: int = 20,
    batch_samples: int | None = None,
    seed: int | None = None,
    *,
    class_dim: int | None = None,
    keep_samples: bool = False,
    progress: bool = False,
    modules: Sequence[Named] = (),
) -> Prediction:
    """Return mean and std of a model's output under dropout, and a classifier's entropy and mutual information.

    The model runs in `mc_dropout`, without gradients. Moments are updated online, so that memory does not grow with the
    number of samples.

    Parameters
    ----------
    model : torch.nn.Module
        One that returns a floating-point tensor with the batch first.
    x : torch.Tensor, tuple or mapping
        The input, batch first; a tuple of positional or a mapping of keyword arguments. All tensors in them have the
        batch first, anything else is passed unchanged.
    samples : int
        Number of samples.
    batch_samples : int, optional
        Number of samples in one pass through the model, as a larger batch; default: one, which takes the least memory.
    seed : int in [0, 2**64), optional
        Determines the samples; torch's generators are restored afterwards. Default: torch's generators advance. While
        it runs, calls in other threads wait, and nothing else may draw from torch's generators (see Notes).
    class_dim : int, optional
        For classifiers: the dimension of the output that holds a logit for each class. Mean and std are those of the
        softmax along it.
    keep_samples : bool
        If True, return all samples too.
    progress : bool
        If True, show a bar on stderr; needs rich.
    modules : tuple or list of classes and modules
        As in `mc_dropout`.

    Returns
    -------
    Prediction
        `mean`, `std`, and optionally `samples`, `entropy` and `mutual_information`.

    Raises
    ------
    TypeError
        If model is no module, x holds no tensor, the output is no floating-point tensor, or a number no integer.
    ValueError
        If samples or batch_samples is below 1, the tensors of x have no common, non-zero batch size, the output has
        another, class_dim is no dimension of at least two classes, or the model is on a device without a generator that
        can be seeded. As in `mc_dropout`, if nothing drops.
    RuntimeError
        As in `mc_dropout`, if another thread needs other flags of the same modules.
    ModuleNotFoundError
        If progress is True and rich is not installed.

    Warns
    -----
    UserWarning
        If two or more samples are all bitwise equal: nothing dropped, or it did not affect the output.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), fastdrop.Dropout(0.5), torch.nn.Linear(8, 3))
    >>> prediction = fastdrop.mc_predict(model, x, samples=10, seed=0, class_dim=1)
    >>> prediction.mean.shape, prediction.entropy.shape
    (torch.Size([2, 3]), torch.Size([2]))

    Notes
    -----
    One seed gives one result for one batch_samples, device and version of torch. With batch_samples > 1, a dropout that
    has one mask for the whole batch (stochastic depth by batch, dropped weights) has one for all samples of a pass.

    Threads may call this concurrently, also for the same model. Calls with a seed set torch's generators, which all
    threads share: they run one after the other, and not concurrently with calls without a seed. Other code that draws
    from torch's generators meanwhile (a training step, for instance) disturbs the result and repeats its own numbers.

    The method is Gal & Ghahramani's (ICML 2016, https://arxiv.org/abs/1506.02142); the mutual information is BALD's
    (Houlsby et al. 2011, https://arxiv.org/abs/1112.5745; Gal et al. 2017, https://arxiv.org/abs/1703.02910).
    """
    samples = _positive(samples, "samples")
    most = 1 if batch_samples is None else _positive(batch_samples, "batch_samples")
    class_dim = None if class_dim is None else integer(class_dim, "class_dim")
    args, kwargs = _arguments(x)
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, torch.Tensor)]
    size = _batch_size(tensors)
    outputs, entropies = _Moments(), _Moments()
    kept: list[torch.Tensor] = []
    # Not inference_mode: outputs, and what modules cache, could not be used in training then.
    with (
        turn(alone=seed is not None),
        mc_dropout(model, modules=modules),
        _seeded(seed, model, tensors),
        torch.no_grad(),
        _bar(samples, progress) as advance,
    ):
        for start in range(0, samples, most):
            count = min(most, samples - start)
            repeated = [_repeated(value, count) for value in args]
            output = model(*repeated, **{name: _repeated(value, count) for name, value in kwargs.items()})
            output = _checked(output, count * size)
            if class_dim is not None:
                output = _probabilities(output, class_dim)
                entropies.add(_by_sample(_entropy(output, class_dim), count))
            output = _by_sample(output, count)
            outputs.add(output)
            if keep_samples:
                kept.append(output.clone())  # a compiled model may write its next output to the same memory
            advance(count)
        outputs.warn_if_all_are_equal()
        entropy = None if class_dim is None else _entropy(outputs.mean, class_dim)
        # Never below 0 by Jensen's inequality, but for rounding.
        information = None if entropy is None else (entropy - entropies.mean).clamp(min=0)
        return Prediction(outputs.mean, outputs.std(), torch.cat(kept) if kept else None, entropy, information)


class _Moments:
    """Online mean and squared deviations of samples, by Chan, Golub and LeVeque's update (1983)."""

    count = 0
    first: torch.Tensor  # sample
    differ: torch.Tensor  # whether another sample differs from it: rounding may leave deviations of equal ones above 0
    mean: torch.Tensor
    squares: torch.Tensor

    def add(self, batch: torch.Tensor) -> None:
        """Add samples along the first dimension."""
        count, mean = len(batch), batch.mean(0)
        squares = (batch - mean).square().sum(0)
        if not self.count:
            self.first, self.differ = batch[0].clone(), torch.zeros((), dtype=torch.bool, device=batch.device)
        self.differ = self.differ | (batch != self.first).any()
        if self.count:
            delta, part = mean - self.mean, count / (self.count + count)
            mean = self.mean + delta * part
            squares = self.squares + squares + delta.square() * (self.count * part)
        self.count, self.mean, self.squares = self.count + count, mean, squares

    def std(self) -> torch.Tensor:
        """Return the square root of the unbiased variance."""
        return (self.squares / (self.count - 1)).sqrt()  # 0 / 0 = NaN for one sample

    def warn_if_all_are_equal(self) -> None:
        """Warn where several samples are one and the same."""
        if self.count > 1 and not self.differ:
            text = (
                f"mc_predict: all {self.count} samples are equal, so nothing dropped on the way to the output; if the "
                "model calls functional dropout in its own code, name the classes that do with modules="
            )
            warnings.warn(text, stacklevel=3)


@contextlib.contextmanager
def _seeded(seed: int | None, model: Module, tensors: list[torch.Tensor]) -> Iterator[None]:
    """Have what the model draws follow from the seed, if there is one, and give the generators back as they were."""
    if seed is None:
        yield
        return
    unsigned = signed64(seed, "seed") % TWO_64
    # Not torch.manual_seed: it reseeds all devices, also those that are not restored, or not even in use yet.
    first, *others = generators = _generators(model, tensors)
    states = [generator.get_state() for generator in generators]
    try:
        first.manual_seed(unsigned)
        for generator in others:
            generator.manual_seed(int(seeds.draw(first)))  # with the same seed, two layers would have the same mask
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


def _generators(model: Module, tensors: list[torch.Tensor]) -> list[torch.Generator]:
    """Return the generators that a model may draw from, each once: those of CPU and devices, and its layers' own."""
    devices = dict.fromkeys(tensor.device for tensor in (*model.parameters(), *model.buffers(), *tensors))
    defaults = [_default_generator(device) for device in devices if device.type not in ("cpu", "meta")]
    attributes = [getattr(module, "generator", None) for module in model.modules()]
    own = [generator for generator in attributes if isinstance(generator, torch.Generator)]
    return list(dict.fromkeys([torch.default_generator, *defaults, *own]))


def _default_generator(device: torch.device) -> torch.Generator:
    generators = getattr(torch.get_device_module(device), "default_generators", None)
    if generators is None:
        raise ValueError(f"seed needs model and x on CPU, CUDA or XPU devices, but got some on {device}")
    generator: torch.Generator = generators[device.index]
    return generator


@contextlib.contextmanager
def _bar(samples: int, progress: bool) -> Iterator[Callable[[int], None]]:
    """Show a progress bar, if wanted, that the yielded function advances."""
    if not progress:
        yield lambda count: None
        return
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("progress=True needs rich: pip install rich", name=error.name) from error
    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("sampling", total=samples)
        yield lambda count: bar.advance(task, count)


def _positive(value: Any, name: str) -> int:
    number = integer(value, name)
    if number < 1:
        raise ValueError(f"{name} has to be at least 1, but got {cut(number)}")
    return number


def _arguments(x: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return x as positional and keyword arguments."""
    if isinstance(x, Mapping):
        return (), dict(x)
    return (x if isinstance(x, tuple) else (x,)), {}


def _batch_size(tensors: list[torch.Tensor]) -> int:
    if not tensors:
        raise TypeError("x has to be a tensor, or a tuple or mapping with tensors, but got none")
    sizes = {tensor.size(0) if tensor.ndim else 0 for tensor in tensors}
    if len(sizes) > 1 or 0 in sizes:
        shapes = cut(", ".join(str(tuple(tensor.shape)) for tensor in tensors))
        raise ValueError(f"x has to have the same first dimension in all tensors, and at least 1, but got {shapes}")
    return sizes.pop()


def _repeated(value: Any, count: int) -> Any:
    """Return a tensor repeated along the batch, copied even if count is 1: the first operation may be in place."""
    return torch.cat([value] * count) if isinstance(value, torch.Tensor) else value


def _checked(output: Any, size: int) -> torch.Tensor:
    """Return the output in at least float32, if it is a floating-point tensor with a first dimension of this size."""
    if not isinstance(output, torch.Tensor) or not output.is_floating_point():
        got = output.dtype if isinstance(output, torch.Tensor) else type(output).__name__
        raise TypeError(f"model has to return a floating-point tensor, but got {got}: wrap it in a module that does")
    if output.ndim == 0 or output.size(0) != size:
        raise ValueError(f"model has to return the batch first, {size} long, but got shape {tuple(output.shape)}")
    return output.to(torch.promote_types(output.dtype, torch.float32))


def _by_sample(tensor: torch.Tensor, count: int) -> torch.Tensor:
    """Return the batch of a pass with its samples along a new first dimension."""
    return tensor.reshape(count, len(tensor) // count, *tensor.shape[1:])


def _probabilities(logits: torch.Tensor, class_dim: int) -> torch.Tensor:
    ndim = logits.ndim
    if not -ndim <= class_dim < ndim or class_dim % ndim == 0 or logits.size(class_dim) < 2:
        raise ValueError(
            "class_dim has to be a dimension of at least 2 classes after the batch's, "
            f"but got {class_dim} for an output of shape {tuple(logits.shape)}"
        )
    return logits.softmax(class_dim)


def _entropy(probabilities: torch.Tensor, class_dim: int) -> torch.Tensor:
    terms: torch.Tensor = torch.special.entr(probabilities)  # 0 ln 0 = 0
    return terms.sum(class_dim)
