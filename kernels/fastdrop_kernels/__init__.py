"""fastdrop's kernels: pure Numba. Addresses, sizes, p and seeds go in; nothing here knows torch."""
