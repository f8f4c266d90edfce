"""Finding the neurons of a language: recorded activations in, neuron sets out."""
