"""Benchmarks: ratios within one run on one machine, written to JSON."""
