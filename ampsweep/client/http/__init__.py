"""HTTP beneath the clients: transports, requests and their retries, event streams, errors."""
