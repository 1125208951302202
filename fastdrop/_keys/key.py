"""What a mask depends on."""

import torch

# 64 bits as a signed int, or an int64 tensor of one element on the device that reads it.
Seed = int | torch.Tensor
# Strides of a dense tensor, in whose memory order elements are counted; None: row-major order.
CountingStrides = tuple[int, ...] | None
# Shape of a mask that is broadcast over the tensor, counted in row-major order; None: the tensor's own shape.
NoiseShape = tuple[int, ...] | None
# Parameter (p, or what a formula has in its place), seed, offset, counting strides, noise shape: all of a mask.
Key = tuple[float, Seed, int, CountingStrides, NoiseShape]
