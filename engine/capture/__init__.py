"""Capture of activations at each token: which neurons, of which texts, and the table that holds them."""
