"""The kernels for CPUs, compiled by Numba or in torch operations."""
