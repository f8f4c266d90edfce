"""Benchmarks. They report ratios between variants measured in the same run, and write JSON."""
