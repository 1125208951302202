"""GPU kernels: a thread computes the draws of its tile, applies a formula to it and goes on to the next."""
