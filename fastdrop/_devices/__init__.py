"""From tensors to kernels: the CPU with its threads, and CUDA."""
