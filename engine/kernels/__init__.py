"""The arithmetic of an intervention on a batch of tokens, each with its own slot: a' = mult * a + add + coef * s.

Here s is a statistic of the token's activations. `cpu.steer_numba` (float32 on CPUs) and `cpu.steer_torch` (all else)
work on `out` = activation(gate) * up, where the formula becomes out' = mult * out + (add + coef * s) * up. The model
computes the activation function itself, so a neutral entry (1, 0, 0) leaves every bit unchanged. `cpu.take_statistics`
computes s before them.

`cuda.steer_triton` computes activation, interventions and product in one pass on a GPU, from a `device_table` at fixed
addresses. `cuda.statistic_triton` computes the statistics before it, and `cuda.record_triton` sums activations. Without
a GPU they are tested in Triton's interpreter; `benchmarks/kernel.py` measures them.
"""
