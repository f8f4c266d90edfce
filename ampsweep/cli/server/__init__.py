"""What `ampsweep serve` and `ampsweep run` put together: settings, runtime, HTTP server."""
