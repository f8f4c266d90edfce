"""Everything that touches vLLM's internals; nothing outside this folder imports a private vLLM name.

`worker` replaces vLLM's worker class: after the model is loaded, `mlps` puts a `SteeredActivation` in place of each
MLP's activation, and `runner_v1` tells `steering` before each step which token belongs to which request. `table` holds
the interventions in use, `recording` sums up activations. Supported vLLM versions are named in `versions`.
"""
