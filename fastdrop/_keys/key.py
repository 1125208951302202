"""What a mask depends on."""

import torch

Seed = int | torch.Tensor
"""64 bits as a signed int, or an int64 tensor of one element on the device that is to read it."""

CountingStrides = tuple[int, ...] | None
"""Strides of a dense tensor in whose memory's order elements are counted; None: row by row."""

NoiseShape = tuple[int, ...] | None
"""Shape of a mask that is broadcast over the tensor, counted row by row; None: the tensor's own."""

Key = tuple[float, Seed, int, CountingStrides, NoiseShape]
"""All that a mask depends on: parameter (p, or what a formula has in its place), seed, offset, strides, noise shape."""
