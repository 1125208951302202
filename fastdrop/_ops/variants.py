"""One record an op: what it computes, how its masks lie, and what torch has of the kind. Other lists derive from it."""

import itertools
from collections.abc import Callable
from typing import Final, NamedTuple

import torch

from fastdrop._keys.key import Seed
from fastdrop_kernels.formulas import FORMULAS, IDENTITY
from fastdrop_kernels.names import ELEMENTS, REPEATED_ROWS, SEGMENTS

Native = Callable[[torch.Tensor, float, bool, bool], torch.Tensor]  # (input, p, training, inplace) -> result

EACH: Final = (ELEMENTS,)  # every element has a draw of its own
BROADCAST: Final = (SEGMENTS, REPEATED_ROWS)  # several elements share a draw: as a mask may lie over memory


def kernels_of(formula: str, layouts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the kernels that compute a formula and its derivative."""
    formulas = {formula: None, FORMULAS[formula].derivative: None}
    return tuple(layout + name for name in formulas if name != IDENTITY for layout in layouts)


class Variant(NamedTuple):
    """What one or several functions of `fastdrop.functional` compute."""

    name: str  # as error texts call it
    formula: str  # name of what it computes of an element
    functions: tuple[str, ...] = ()  # that compute it
    kernels: tuple[str, ...] = ()  # names of what it runs
    native: Native | None = None  # torch's own, for all that is not ours
    operator: str | None = None  # of torch, which `install` overrides
    modules: tuple[str, ...] = ()  # of torch.nn, which `replace` makes ours of the same name
    deterministic: float | None = 1.0  # the parameter at which nothing is random

    def seed_at(self, parameter: float, seed: Seed | None) -> Seed | None:
        """Return a given seed; None where one is to be drawn: not where nothing is random, as in native."""
        return 0 if seed is None and parameter == self.deterministic else seed


class JoinVariant(NamedTuple):
    """What a function of two tensors computes, the first of which drops elements."""

    name: str  # as above
    formula: str
    functions: tuple[str, ...]
    kernels: tuple[str, ...]
    composed: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # the same of the first's dropout, by torch


def _native(name: str) -> Native:
    fresh, in_place = getattr(torch, name), getattr(torch, f"{name}_")

    def native(x: torch.Tensor, p: float, training: bool, inplace: bool) -> torch.Tensor:
        return (in_place if inplace else fresh)(x, p, training)  # type: ignore[no-any-return]

    return native


def _unbatched(native: Native) -> Native:
    """Return an operator on batches as one on a sample."""

    def unbatched(x: torch.Tensor, p: float, training: bool, inplace: bool) -> torch.Tensor:
        y = native(x.unsqueeze(0), p, training, inplace)
        return x if inplace else y.squeeze(0)

    return unbatched


DROPOUT: Final = Variant(
    "dropout",
    "dropout",
    functions=("dropout", "drop_connect"),
    kernels=kernels_of("dropout", EACH),
    native=torch.nn.functional.dropout,
    operator="dropout",
    modules=("Dropout",),
)
BROADCAST_DROPOUT: Final = Variant("dropout with a noise_shape", "dropout", kernels=kernels_of("dropout", BROADCAST))
FEATURE_DROPOUT: Final = Variant(
    "feature dropout",
    "dropout",
    functions=("dropout1d", "dropout2d", "dropout3d"),
    kernels=kernels_of("dropout", BROADCAST),
    native=_native("feature_dropout"),
    operator="feature_dropout",
    modules=("Dropout1d", "Dropout2d", "Dropout3d"),
)
UNBATCHED_FEATURE_DROPOUT: Final = FEATURE_DROPOUT._replace(
    native=_unbatched(_native("feature_dropout")), operator=None, modules=()
)
ALPHA_DROPOUT: Final = Variant(
    "alpha_dropout",
    "alpha_dropout",
    functions=("alpha_dropout",),
    kernels=kernels_of("alpha_dropout", EACH),
    native=_native("alpha_dropout"),
    operator="alpha_dropout",
    modules=("AlphaDropout",),
)
FEATURE_ALPHA_DROPOUT: Final = Variant(
    "feature_alpha_dropout",
    "alpha_dropout",
    functions=("feature_alpha_dropout",),
    kernels=kernels_of("alpha_dropout", BROADCAST),
    native=_native("feature_alpha_dropout"),
    operator="feature_alpha_dropout",
    modules=("FeatureAlphaDropout",),
)
SCALED_DROP_PATH: Final = Variant(
    "drop_path", "dropout", functions=("drop_path",), kernels=kernels_of("dropout", BROADCAST)
)
DROP_PATH: Final = Variant("drop_path", "drop", functions=("drop_path",), kernels=kernels_of("drop", BROADCAST))
STOCHASTIC_DEPTH: Final = Variant(
    "stochastic_depth", "dropout", functions=("stochastic_depth",), kernels=kernels_of("dropout", BROADCAST)
)
VARIATIONAL_DROPOUT: Final = Variant(
    "variational_dropout", "dropout", functions=("variational_dropout",), kernels=kernels_of("dropout", BROADCAST)
)
GAUSSIAN_DROPOUT: Final = Variant(
    "gaussian_dropout",
    "gaussian_dropout",
    functions=("gaussian_dropout",),
    kernels=kernels_of("gaussian_dropout", EACH),
    deterministic=None,
)
GAUSSIAN_NOISE: Final = Variant(
    "gaussian_noise",
    "gaussian_noise",
    functions=("gaussian_noise",),
    kernels=kernels_of("gaussian_noise", EACH),
    deterministic=None,
)
MASK: Final = Variant("dropout_mask", "mask", functions=("dropout_mask", "word_dropout"), kernels=("mask",))
EMBEDDING_DROPOUT: Final = Variant(
    "embedding_dropout", "dropout", functions=("embedding_dropout",), kernels=("mask", "masked_scale_rows")
)
BLOCK_KERNELS: Final = ("mask", "dilate_blocks", "masked_scale")
DROP_BLOCK2D: Final = Variant("drop_block2d", "dropout", functions=("drop_block2d",), kernels=BLOCK_KERNELS)
DROP_BLOCK3D: Final = Variant("drop_block3d", "dropout", functions=("drop_block3d",), kernels=BLOCK_KERNELS)

DROPOUT_ADD: Final = JoinVariant(
    "dropout_add", "dropout_add", ("dropout_add",), kernels_of("dropout_add", EACH), composed=torch.add
)

VARIANTS: Final = (
    DROPOUT,
    BROADCAST_DROPOUT,
    FEATURE_DROPOUT,
    UNBATCHED_FEATURE_DROPOUT,
    ALPHA_DROPOUT,
    FEATURE_ALPHA_DROPOUT,
    SCALED_DROP_PATH,
    DROP_PATH,
    STOCHASTIC_DEPTH,
    VARIATIONAL_DROPOUT,
    GAUSSIAN_DROPOUT,
    GAUSSIAN_NOISE,
    MASK,
    EMBEDDING_DROPOUT,
    DROP_BLOCK2D,
    DROP_BLOCK3D,
)
JOINS: Final = (DROPOUT_ADD,)
OPS: Final = frozenset(name for variant in (*VARIANTS, *JOINS) for name in variant.functions)


def kernels_for(functions: frozenset[str]) -> frozenset[str]:
    """Return the names of the kernels that some functions run."""
    used = (each.kernels for each in (*VARIANTS, *JOINS) if functions.intersection(each.functions))
    return frozenset(itertools.chain.from_iterable(used))
