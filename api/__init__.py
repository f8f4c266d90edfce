"""HTTP: what a server answers. Knows jobs; reaches the engines only through the protocols of `jobs.execution`."""
