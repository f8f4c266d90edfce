"""The server process of `ampsweep serve`, partly shared by `ampsweep run`: settings, runtime, HTTP server."""
