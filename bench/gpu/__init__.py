"""Dropout on a GPU, checked against the CPU and measured against native, compiled and Triton: `python -m bench.gpu`."""
