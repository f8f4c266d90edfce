"""The one place that says what is done: sweeps, cells, leases, events."""
