"""One model, steered: interventions, neuron sets, identification, three engines. Knows no sweep, no HTTP, no Ray."""
