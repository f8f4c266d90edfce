"""What is to be computed and what came out: spec, plan, store, tasks, metrics, results. No HTTP, no Ray, no vLLM."""
