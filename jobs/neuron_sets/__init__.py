"""The neuron sets of an installation: local, in a bucket, by default, under way."""
