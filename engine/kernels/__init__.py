"""The arithmetic of an intervention on a batch of tokens, each with its own slot: a' = mult * a + add + coef * s.

Here s is a `statistic` of the token's activations. `steer_numba` (float32 on CPUs) and `steer_torch` (everything else)
work on `out` = activation(gate) * up, where it is the same as out' = mult * out + (add + coef * s) * up: the activation
function itself is left to the model, so a neutral entry (1, 0, 0) leaves every bit as it was. `take_statistics` takes s
before them.

`steer_triton` computes activation, interventions and product in one pass on a GPU, from a `device_table` at fixed
addresses; `statistic_triton` takes a token's row statistics before it, `record_triton` sums up activations. Without a
GPU they are tested through Triton's interpreter; `benchmarks/kernel.py` measures them.
"""
