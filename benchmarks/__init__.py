"""Benchmarks. They report ratios between variants measured in the same run, and write JSON.

The modules here are commands, run as `python -m benchmarks.throughput`; the folders have what they share.
"""
