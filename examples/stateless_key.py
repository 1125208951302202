"""A mask from (seed, step) alone: no generator's state to save, and any part of it can be had on its own."""

import torch

import fastdrop

seed, step = 1234, 17
x = torch.ones(4, 1000)

whole = fastdrop.functional.dropout(x, 0.25, seed=seed, offset=step)
mask = fastdrop.dropout_mask(x.shape, 0.25, seed=seed, offset=step)
print("dropout and dropout_mask agree:", torch.equal(whole != 0, mask))

# Row 2 by itself: elements are counted row by row, so it starts at element 2 * 1000 of the stream.
row = fastdrop.dropout_mask(1000, 0.25, seed=seed, offset=step, start=2 * 1000)
print("a shard has its part of the mask:", torch.equal(row, mask[2]))
