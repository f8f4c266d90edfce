"""The arithmetic of an intervention on a batch of tokens, each with its own slot: a' = mult * a + add + coef * s.

Here s is a statistic of the token's activations. `steer_numba` (float32 on CPUs) and `steer_torch` (everything else)
work on `out` = activation(gate) * up, where the formula becomes out' = mult * out + (add + coef * s) * up. The model
computes the activation function itself, so a neutral entry (1, 0, 0) leaves every bit unchanged. `take_statistics`
computes s before them.

`steer_triton` computes activation, interventions and product in one pass on a GPU, from a `device_table` at fixed
addresses. `statistic_triton` computes the statistics before it, and `record_triton` sums activations. Without a GPU
they are tested in Triton's interpreter; `benchmarks/kernel.py` measures them.
"""
