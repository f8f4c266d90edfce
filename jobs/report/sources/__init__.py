"""What a report reads besides samples and summary: scores, neuron sets, provenance and resource classes."""
