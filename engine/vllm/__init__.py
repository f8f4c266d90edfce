"""Everything that touches vLLM's internals; nothing outside this folder imports a private vLLM name.

`worker` replaces vLLM's worker class. After the model is loaded, `worker.model.mlps` finds its MLPs, and a backend puts
a module in place of each MLP's activation. Before each step `worker.runner_v1` or `worker.runner_v2`, depending on
vLLM's model runner, tells `worker.steering` which token belongs to which request. `worker.slots` assigns slots to
interventions, and `worker.outputs.recording` sums activations. `versions` lists the supported vLLM releases.

There are two steering backends behind the interface in `backends.base`: `backends.cpu` for CPUs and `backends.cuda` for
GPUs.
"""
