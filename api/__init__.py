"""The HTTP server: routes, authentication and limits. It reaches engines through `jobs.execution` only."""
