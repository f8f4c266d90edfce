"""Identification of language-specific neurons: records activations over a corpus and selects neurons from them."""
