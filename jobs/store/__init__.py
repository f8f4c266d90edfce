"""The store of sweeps, cells, leases and events. It alone decides what has been computed."""
