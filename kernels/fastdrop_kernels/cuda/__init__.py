"""GPU kernels: a thread computes the draws of its tile, applies a formula to it and proceeds to its next tile."""
