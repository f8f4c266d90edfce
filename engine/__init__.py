"""One model, steered: interventions, neuron sets, identification, three engines. Knows nothing of sweeps, HTTP or Ray."""
