"""Everything that touches vLLM's internals; nothing outside this folder imports a private vLLM name.

`worker` replaces vLLM's worker class: after the model is loaded, `mlps` finds its MLPs and a path puts a module in
place of each one's activation. `runner_v1` or `runner_v2`, by vLLM's model runner, tell `steering` before each step
which token belongs to which request. `slots` says which intervention has which slot, `recording` sums up activations.
Supported vLLM versions are named in `versions`.

There are two paths behind the seam of `path`: `host_path` with `activation` and `table` for CPUs, and `device_path`
with `fused_activation` for GPUs.
"""
