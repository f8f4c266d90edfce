"""Steering in vLLM's own engines and server, installed by the entry point `ampsweep.vllm_plugin`.

`install` wraps vLLM's classes in each process. `configuration` changes the configuration of an engine before it starts:
its workers are those of `engine.vllm.worker`, as in the product's engine. In the front end, `front_end` validates what
a request asks for and turns it into the extras that the workers read. In the engine's core, `scheduler` lets requests
wait for a slot, and `self_test` tests steering before the first request. `metrics` adds to vLLM's `/metrics`.
"""
