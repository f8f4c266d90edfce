"""The entry point of the vLLM plug-in, which every process of vLLM loads, steered or not.

It imports nothing but `os` unless the environment names a neuron set. See docs/vllm-serve.md.
"""

import os

NEURONS = "AMPSWEEP_NEURONS"
"""The environment variable that names the neuron set: the folder of a set, or a file that `read_neuron_file` reads."""


def register() -> None:
    """Let vLLM steer requests in this process if AMPSWEEP_NEURONS is set; calling it again changes nothing.

    Raises:
        InvalidRequest: Another package has the name of one of this project's packages.
    """
    if not os.environ.get(NEURONS):
        return
    from ampsweep.own_packages import require_own_packages

    require_own_packages()
    from engine.vllm.plugin.install import install

    install()
