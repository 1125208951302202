"""A module of two tensors as one of a tensor, for tests that give every module one."""

from typing import Any

import torch

import fastdrop


class AddedToItself(fastdrop.DropoutAdd):
    """DropoutAdd whose input is the residual too."""

    def forward(self, x: torch.Tensor, **key: Any) -> torch.Tensor:
        """Return x + dropout(x)."""
        return super().forward(x, x, **key)
