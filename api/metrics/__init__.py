"""Prometheus metrics of HTTP requests, the queue and the engines."""
