"""CPU kernels: fill a small buffer with draws, apply a formula to as many elements, go on."""
