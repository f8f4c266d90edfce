"""What Prometheus is told, each part from where it is known: HTTP, the queue, the engines."""
