"""Whether a text is in a language: language identifiers, scripts, and the rule of the Language Confusion Benchmark."""
