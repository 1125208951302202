"""The family: what each member computes, and what torch has of the same name."""

from collections.abc import Callable
from typing import Final, NamedTuple

import torch

from fastdrop._keys.key import Seed

Native = Callable[[torch.Tensor, float, bool, bool], torch.Tensor]  # (input, p, training, inplace) -> result


class Variant(NamedTuple):
    """A member of the family."""

    formula: str  # name of what it computes of an element
    name: str  # as users call it
    native: Native | None = None  # torch's own, for all that is not ours
    deterministic_p: float | None = 1.0  # p at which nothing is random

    def seed_at(self, p: float, seed: Seed | None) -> Seed | None:
        """Return a given seed; None where one is to be drawn: not where all is certain, as in native."""
        return 0 if seed is None and p == self.deterministic_p else seed


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


DROPOUT: Final = Variant("dropout", "dropout", torch.nn.functional.dropout)
BROADCAST_DROPOUT: Final = Variant("dropout", "dropout with a noise_shape")
FEATURE_DROPOUT: Final = Variant("dropout", "feature dropout", _native("feature_dropout"))
UNBATCHED_FEATURE_DROPOUT: Final = Variant("dropout", "feature dropout", _unbatched(_native("feature_dropout")))
ALPHA_DROPOUT: Final = Variant("alpha_dropout", "alpha_dropout", _native("alpha_dropout"))
FEATURE_ALPHA_DROPOUT: Final = Variant("alpha_dropout", "feature_alpha_dropout", _native("feature_alpha_dropout"))
SCALED_DROP_PATH: Final = Variant("dropout", "drop_path")
DROP_PATH: Final = Variant("drop", "drop_path")
STOCHASTIC_DEPTH: Final = Variant("dropout", "stochastic_depth")
DROP_BLOCK2D: Final = Variant("drop_block", "drop_block2d")
DROP_BLOCK3D: Final = Variant("drop_block", "drop_block3d")
VARIATIONAL_DROPOUT: Final = Variant("dropout", "variational_dropout")
GAUSSIAN_DROPOUT: Final = Variant("gaussian_dropout", "gaussian_dropout", deterministic_p=None)
GAUSSIAN_NOISE: Final = Variant("gaussian_noise", "gaussian_noise", deterministic_p=None)
